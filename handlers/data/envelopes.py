"""The JSON shapes that clients of other servers wrap their rows in, and the answers they expect.

``{"instances": rows}`` is answered with ``{"predictions": ...}`` and ``{"inputs": ...}`` with
``{"outputs": ...}``, as TensorFlow Serving and SageMaker's own algorithms do. ``{"features": row}``
is SageMaker's way to write one row, and is answered like a row by itself.

The default ``input_fn`` gives an ``Envelope``. It still is the document that was sent, which is
what an author's own ``predict_fn`` gets; a framework's gets ``data``, and its answer goes into
``reply``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INSTANCES = "instances"
INPUTS = "inputs"
FEATURES = "features"
SIGNATURE = "signature_name"

Convert = Callable[[Any], Any]


class Reply(dict[str, Any]):
    """An answer in the shape that goes with the request; types other than JSON take ``bare``."""

    __slots__ = ("bare",)

    def __init__(self, key: str, bare: Any) -> None:
        super().__init__({key: bare})
        self.bare = bare


class Envelope(dict[str, Any]):
    """A document as it was sent. ``data`` is what it holds for the model."""

    __slots__ = ("_key", "data")

    def __init__(self, document: dict[str, Any], data: Any, key: str | None) -> None:
        super().__init__(document)
        self.data = data
        self._key = key

    def reply(self, prediction: Any) -> Any:
        """The answer to send for a prediction."""
        return prediction if self._key is None else Reply(self._key, prediction)


@dataclass(frozen=True, slots=True)
class Rows:
    """Data of a body for a framework's predict_fn, where an author's own expects another kind."""

    data: Any
    for_author: Callable[[Any], Any]


def opened(document: dict[str, Any], convert: Convert) -> dict[str, Any]:
    """The document as an ``Envelope`` if it has one of the shapes, else as it is.

    ``convert`` makes of a list what the model takes; it gets each named input by itself.
    """
    instances = document.get(INSTANCES)
    if isinstance(instances, list):
        return Envelope(document, convert(bare_rows(instances)), "predictions")
    if INPUTS in document and document.keys() <= {INPUTS, SIGNATURE}:
        return Envelope(document, _inputs(document[INPUTS], convert), "outputs")
    if document.keys() == {FEATURES} and isinstance(document[FEATURES], list):
        return Envelope(document, convert(bare_rows([document])), None)
    return document


def _inputs(inputs: Any, convert: Convert) -> Any:
    if isinstance(inputs, dict):
        return {name: convert(value) for name, value in inputs.items()}
    return convert(inputs)


def bare_rows(rows: list[Any]) -> list[Any]:
    """Rows written as ``{"features": [...]}`` without what is around them; others as they are."""
    if not rows or not all(_is_wrapped(row) for row in rows):
        return rows
    bare = [row[FEATURES] for row in rows]
    nested = len(bare) == 1 and bare[0] and all(isinstance(item, list) for item in bare[0])
    return list(bare[0]) if nested else bare


def _is_wrapped(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() == {FEATURES} and isinstance(row[FEATURES], list)
