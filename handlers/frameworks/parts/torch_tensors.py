"""Finds what a loaded model has of PyTorch: its modules, and their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

# How far from what was loaded modules are looked for: a handler's module, its service, a pipeline.
_DEPTH = 3
_MOST_OBJECTS = 10_000
_NO_HOLDERS = (type, ModuleType, FunctionType, BuiltinFunctionType, str, bytes)


def modules_of(loaded: Any) -> Iterator[Any]:
    """The modules in what was loaded: itself, or what it holds, a few steps deep."""
    import torch

    seen: set[int] = set()
    nearest = [loaded]
    for _ in range(_DEPTH + 1):
        held: list[Any] = []
        for value in nearest:
            if id(value) in seen or len(seen) >= _MOST_OBJECTS:
                continue
            seen.add(id(value))
            if issubclass(type(value), torch.nn.Module):
                yield value
            elif value is loaded or not issubclass(type(value), _NO_HOLDERS):
                held += _held_by(value)
        nearest = held


def _held_by(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(islice(value.values(), _MOST_OBJECTS))
    if isinstance(value, list | tuple | set | frozenset):
        return list(islice(value, _MOST_OBJECTS))
    attributes = getattr(value, "__dict__", None)
    return list(attributes.values()) if isinstance(attributes, dict) else []


def tensors_of(modules: Sequence[Any]) -> Iterator[Any]:
    """Parameters, buffers, and tensors that are plain attributes; of wrappers, what is inside."""
    import torch

    for module in modules:
        for part in module.modules():
            plain = [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
            for group in (part.parameters(recurse=False), part.buffers(recurse=False), plain):
                for tensor in group:
                    yield from _inner(tensor)


def _inner(tensor: Any) -> Iterator[Any]:
    import torch

    if hasattr(tensor, "__tensor_flatten__"):  # quantised, distributed, …: tensors in a tensor
        for name in tensor.__tensor_flatten__()[0]:
            yield from _inner(getattr(tensor, name))
    elif tensor.layout is torch.strided:
        yield tensor
