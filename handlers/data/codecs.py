"""Bodies to values and back, for models that bring no input_fn or output_fn of their own.

Decoding gives numpy arrays where the data is numeric, as the SageMaker toolkit's defaults do, with
three differences: a charset parameter is honoured, NPY never unpickles, and CSV is always a table
(rows x columns), also when it has one row.

JSON has no NaN: NaN and the infinities are written as ``null``, so that every client can read the
answer. They are understood in requests, because Python clients send them.

numpy is imported on first use; without it JSON decodes to plain lists.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

from handlers.data.envelopes import Reply
from handlers.data.media_types import (
    BYTES,
    CSV,
    JSON,
    JSON_LINES,
    ND_JSON,
    NPY,
    TEXT,
    accepts_anything,
    negotiate,
    parse,
)
from handlers.data.remembered import remembered
from handlers.errors import InvalidInput, InvalidOutput, NotAcceptable, UnsupportedContentType
from handlers.optional_packages import usable

CELL_TYPES = (str, int, float, type(None))  # a union made anew for each cell would be slow

# Types whose body a model's own functions get as str; all others stay bytes.
STR_TYPES = frozenset({JSON, CSV})


def decode(body: bytes, content_type: str) -> Any:
    """What a body holds. An empty content type means JSON.

    Raises ``UnsupportedContentType`` for a type not listed in ``DECODERS`` and ``InvalidInput``
    for a body that is not what its type says.
    """
    media_type = parse(content_type or JSON)
    decoder = DECODERS.get(media_type.essence)
    if decoder is None:
        known = ", ".join(DECODERS)
        raise UnsupportedContentType(
            f"Content-Type {content_type!r} is not supported; send one of: {known}. "
            "For other types give the model an input_fn."
        )
    return decoder(body, media_type.charset)


def encode(value: Any, accept: str, default: str) -> tuple[bytes, str]:
    """A value as the best of the accepted types that can hold it, with the type chosen.

    An empty or ``*/*`` Accept takes ``default`` first. Raises ``NotAcceptable``, or
    ``InvalidOutput`` for a value that no client could be sent.
    """
    reasons: dict[str, str] = {}
    bare = value.bare if type(value) is Reply else value
    for choice in _choices(accept, default):
        try:
            return ENCODERS[choice](value if choice == JSON else bare), choice
        except NotAcceptable as error:
            reasons[choice] = error.message
    raise _not_encoded(value, bare, accept, reasons)


def _not_encoded(
    value: Any, bare: Any, accept: str, reasons: dict[str, str]
) -> NotAcceptable | InvalidOutput:
    """The client's fault if the value could be JSON, or is bytes, and these were not asked for."""
    if reasons and not isinstance(bare, bytes | bytearray | memoryview):
        try:
            encode_json(value)
        except NotAcceptable as error:
            return InvalidOutput(
                f"The model's prediction cannot be sent. {error.message}. Return plain values, "
                "lists and dicts, or arrays, or give the model an output_fn."
            )
    reason = next(iter(reasons.values()), f"Accept {accept!r} names no supported type")
    return NotAcceptable(
        f"{reason}; supported are: {', '.join(ENCODERS)}. For other types give the model an "
        "output_fn."
    )


@remembered
def _choices(accept: str, default: str) -> tuple[str, ...]:
    """The types that an answer may have, best first."""
    return tuple(negotiate("" if accepts_anything(accept) else accept, list(ENCODERS), default))


def decode_text(body: bytes, charset: str = "utf-8") -> str:
    """Bytes to str, with errors a client understands."""
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The body is not valid {charset}: {error}") from error
    except LookupError as error:
        raise UnsupportedContentType(f"Unknown charset {charset!r}; send utf-8.") from error


def _parse_json(text: str, where: str = "body") -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # not JSON, or more than JSON, such as NaN, which the second try tells
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The {where} is not valid JSON: {error}") from error


def numeric(value: Any) -> Any:
    """A list of numbers, nested or not, as an array; anything else as it is."""
    if not isinstance(value, list) or not usable("numpy"):
        return value
    import numpy as np

    try:
        array = np.array(value)
    except (ValueError, OverflowError):  # rows of different lengths
        return value
    return array if array.dtype.kind in "biuf" else value


def _decode_json(body: bytes, charset: str) -> Any:
    return numeric(_parse_json(decode_text(body, charset)))


def _decode_json_lines(body: bytes, charset: str) -> Any:
    lines = decode_text(body, charset).split("\n")
    rows = [_parse_json(line, f"line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidInput("The body is empty; send one JSON value a line.")
    return numeric(rows)


def _decode_csv(body: bytes, charset: str) -> Any:
    """A table of numbers, always two-dimensional; an empty cell is NaN."""
    text = decode_text(body, charset)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise InvalidInput(f"The body is not valid CSV: {error}") from error
    if not rows:
        raise InvalidInput("The body is empty; send one row of numbers a line, without a header.")
    table = [[_number(cell, n) for cell in row] for n, row in enumerate(rows, 1)]
    for n, row in enumerate(table, 1):
        if len(row) != len(table[0]):
            raise InvalidInput(f"CSV row {n} has {len(row)} cells, row 1 has {len(table[0])}.")
    return numeric(table)


def _number(cell: str, row: int) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        raise InvalidInput(
            f"CSV row {row} has {cell[:40]!r}, which is not a number. Send numbers without a "
            "header row, or give the model an input_fn."
        ) from None


def _decode_npy(body: bytes, charset: str) -> Any:
    """An array from an NPY file, never unpickled and never larger than the body it came in."""
    if not usable("numpy"):
        raise UnsupportedContentType(f"{NPY} needs numpy, which is not installed here.")
    import numpy as np

    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(stream)
    except (ValueError, KeyError) as error:
        raise InvalidInput(f"The body is not a valid NPY file: {error}") from error
    if dtype.hasobject:
        raise InvalidInput("NPY arrays of Python objects are not accepted; send numbers.")
    data = body[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise InvalidInput(f"The NPY header promises shape {shape}, the body holds another size.")
    array = np.frombuffer(bytearray(data), dtype)  # a bytearray, so that the array is writable
    return array.reshape(shape, order="F" if fortran else "C")


def _decode_bytes(body: bytes, charset: str) -> bytes:
    return body


def _plain(value: Any) -> Any:
    """Arrays, tensors and their scalars as plain Python; told by their ``tolist``."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


_STRICT_JSON = json.JSONEncoder(default=_plain, allow_nan=False)


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return _finite(value.tolist()) if hasattr(value, "tolist") else value


def encode_json(value: Any) -> bytes:
    """JSON text; arrays and tensors become lists, NaN and infinities become null."""
    try:
        text = _STRICT_JSON.encode(value)
    except ValueError:  # not finite, or circular, which the second try tells
        text = _dump_finite(value)
    except (TypeError, RecursionError) as error:
        raise NotAcceptable(f"A {type(value).__name__} cannot be {JSON}: {error}") from error
    return text.encode()


def _dump_finite(value: Any) -> str:
    try:
        return _STRICT_JSON.encode(_finite(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotAcceptable(f"A {type(value).__name__} cannot be {JSON}: {error}") from error


def _encode_json_lines(value: Any) -> bytes:
    items = _plain(value) if hasattr(value, "tolist") else value
    lines = items if isinstance(items, list | tuple) else [items]
    return b"".join(encode_json(line) + b"\n" for line in lines)


def _encode_csv(value: Any) -> bytes:
    """One line a row; a flat list is one value a line."""
    items = _plain(value) if hasattr(value, "tolist") else value
    rows = items if isinstance(items, list | tuple) else [items]
    table = [
        [_plain(cell) if hasattr(cell, "tolist") else cell for cell in _cells(row)] for row in rows
    ]
    for cell in (cell for row in table for cell in row):
        if not isinstance(cell, CELL_TYPES):
            raise NotAcceptable(f"A {type(cell).__name__} does not fit into a cell of {CSV}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode()


def _cells(row: Any) -> list[Any] | tuple[Any, ...]:
    plain = _plain(row) if hasattr(row, "tolist") else row
    return plain if isinstance(plain, list | tuple) else [plain]


def _encode_npy(value: Any) -> bytes:
    if not usable("numpy"):
        raise NotAcceptable(f"{NPY} needs numpy, which is not installed here")
    import numpy as np

    try:
        # Tensors on a device or with a gradient refuse conversion, so they are brought here first.
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:
        raise NotAcceptable(f"A {type(value).__name__} cannot be {NPY}: {error}") from error
    if array.dtype.kind not in "biufcUMm":  # numbers, text, dates: all that needs no pickle
        raise NotAcceptable(f"A {type(value).__name__} that is not all numbers cannot be {NPY}")
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _encode_text(value: Any) -> bytes:
    plain = _plain(value) if hasattr(value, "tolist") else value
    if not isinstance(plain, str | int | float):
        raise NotAcceptable(f"A {type(plain).__name__} cannot be {TEXT}")
    return str(plain).encode()


def _encode_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise NotAcceptable(f"A {type(value).__name__} cannot be {BYTES}")
    return bytes(value)


DECODERS: dict[str, Callable[[bytes, str], Any]] = {
    JSON: _decode_json,
    JSON_LINES: _decode_json_lines,
    ND_JSON: _decode_json_lines,
    CSV: _decode_csv,
    NPY: _decode_npy,
    TEXT: decode_text,
    BYTES: _decode_bytes,
}

# In the order in which a wildcard tries them.
ENCODERS: dict[str, Callable[[Any], bytes]] = {
    JSON: encode_json,
    JSON_LINES: _encode_json_lines,
    ND_JSON: _encode_json_lines,
    CSV: _encode_csv,
    NPY: _encode_npy,
    TEXT: _encode_text,
    BYTES: _encode_bytes,
}
