"""TensorFlow Serving's JSON: values by the names of inputs, rows as objects, bytes as base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.data.envelopes import SIGNATURE
from handlers.errors import InvalidInput

PREDICTIONS = "predictions"
BASE64 = "b64"


@dataclass(frozen=True, slots=True)
class Call:
    """What a request holds for the model, and which of its functions is asked for."""

    data: Any
    signature: str | None = None


def signature_of(document: Mapping[str, Any]) -> str | None:
    """The function that a request names. Raises ``InvalidInput``."""
    name = document.get(SIGNATURE)
    if name is not None and not isinstance(name, str):
        raise InvalidInput(f"{SIGNATURE} must be a name.")
    return name or None


def with_bytes(value: Any) -> Any:
    """The same with each ``{"b64": text}`` as the bytes that it stands for."""
    if isinstance(value, dict):
        if value.keys() == {BASE64} and isinstance(value[BASE64], str):
            return _bytes(value[BASE64])
        return {key: with_bytes(item) for key, item in value.items()}
    return [with_bytes(item) for item in value] if isinstance(value, list) else value


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"The value of {BASE64} is not base64: {error}") from error


def by_name(data: Any, names: list[str]) -> dict[str, Any]:
    """A value for each input of a function. Raises ``InvalidInput`` that tells their names.

    Rows may be objects: the values of one name then belong together.
    """
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        keys = data[0].keys()
        if any(row.keys() != keys for row in data):
            raise InvalidInput("All instances must have the same names.")
        data = {key: [row[key] for row in data] for key in keys}
    if not isinstance(data, Mapping):
        data = {names[0]: data} if len(names) == 1 else {}
    if set(data) != set(names):
        raise InvalidInput(
            f"This model takes the inputs {', '.join(names)}; send each of them by name."
        )
    return dict(data)


def plain_outputs(outputs: dict[str, Any]) -> Any:
    """One output by itself, or several by name; arrays of bytes become lists."""
    plain = {
        name: _readable(value.tolist()) if value.dtype.kind == "O" else value
        for name, value in outputs.items()
    }
    return next(iter(plain.values())) if len(plain) == 1 else plain


def _readable(value: Any) -> Any:
    """Bytes as text, or as base64 where they are none."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(value).decode()}


def row_by_row(prediction: Any) -> Any:
    """Several outputs by name as an object for each row; one output as it is."""
    if not isinstance(prediction, dict):
        return prediction
    columns = [_column(value) for value in prediction.values()]
    if any(column is None or len(column) != len(columns[0] or ()) for column in columns):
        raise InvalidInput("The model's outputs are not one a row: send inputs, not instances.")
    rows = zip(*(column for column in columns if column is not None), strict=True)
    return [dict(zip(prediction, row, strict=True)) for row in rows]


def _column(value: Any) -> list[Any] | None:
    items = value.tolist() if hasattr(value, "tolist") else value
    return items if isinstance(items, list) else None
