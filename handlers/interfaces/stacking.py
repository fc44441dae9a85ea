"""Arrays of several requests as one, and the prediction for it apart again.

Only tables and what has more dimensions are stacked, along the first axis: a lone row may mean
something else to a model once it stands behind another.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from typing import Any

LEAST_DIMENSIONS = 2


def kind_of(value: Any) -> Hashable | None:
    """What two values must have in common to be stacked; None for one that cannot be."""
    if not (_is_a(value, "numpy", "ndarray") or _is_a(value, "torch", "Tensor")):
        return None
    shape = tuple(value.shape)
    if len(shape) < LEAST_DIMENSIONS or shape[0] == 0:
        return None
    return type(value), str(value.dtype), shape[1:], str(getattr(value, "device", ""))


def stack(values: Sequence[Any]) -> Any:
    """Values of one kind as one, row after row."""
    if _is_a(values[0], "torch", "Tensor"):
        return sys.modules["torch"].cat(list(values))
    return sys.modules["numpy"].concatenate(values)


def split(prediction: Any, rows: Sequence[int]) -> list[Any] | None:
    """The prediction cut into pieces of so many rows; None if it has not just as many in all."""
    shape = (len(prediction),) if isinstance(prediction, list) else getattr(prediction, "shape", ())
    if not shape or shape[0] != sum(rows):
        return None
    starts = [sum(rows[:number]) for number in range(len(rows))]
    return [prediction[start : start + count] for start, count in zip(starts, rows, strict=True)]


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of a library; a library not imported has none."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))
