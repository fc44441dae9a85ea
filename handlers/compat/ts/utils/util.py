"""TorchServe's helpers for handlers: labels, classes, the exception with a status."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CLEANUP_REGEX = re.compile("<.*?>|&([a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")


class PredictionException(Exception):
    """Raised by a handler: the client gets ``message`` with the status ``error_code``."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def list_classes_from_module(
    module: ModuleType, parent_class: type[Any] | None = None
) -> list[type[Any]]:
    """The classes that a module defines itself, those of one parent if it is given."""
    found = [
        item
        for _, item in sorted(vars(module).items())
        if isinstance(item, type) and item.__module__ == module.__name__
    ]
    return [item for item in found if parent_class is None or issubclass(item, parent_class)]


def load_label_mapping(mapping_file_path: str) -> dict[str, str] | None:
    """The labels by class number of an index_to_name.json; None without the file."""
    path = Path(mapping_file_path)
    if not path.is_file():
        return None
    mapping = json.loads(path.read_bytes())
    if not isinstance(mapping, dict):
        raise ValueError(f'{path.name} must be an object like {{"0": "label"}}')
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        return {str(number): name for number, name in enumerate(names)}
    return {number: _label(label, path.name) for number, label in mapping.items()}


def _label(value: Any, file: str) -> str:
    label = value[-1] if isinstance(value, list) and value else value
    if not isinstance(label, str):
        raise ValueError(f"labels in {file} must be str or lists of str")
    return label


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: dict[str, str] | None = None,
    lbl_classes: Iterable[Iterable[Any]] | None = None,
) -> list[dict[str, float]]:
    """For each row of probabilities, these by the labels of their classes."""
    if not isinstance(probs, list):
        raise TypeError("probs must be a list of lists")
    if mapping is not None and not isinstance(mapping, dict):
        raise TypeError("mapping must be a dict")
    classes = [range(len(row)) for row in probs] if lbl_classes is None else lbl_classes
    return [
        {
            (str(number) if mapping is None else mapping[str(number)]): prob
            for number, prob in zip(numbers, row, strict=False)
        }
        for numbers, row in zip(classes, probs, strict=False)
    ]


def check_valid_pt2_backend(backend: str) -> bool:
    """Whether torch.compile knows a backend."""
    import torch

    return backend in torch.compiler.list_backends(exclude_tags=())
