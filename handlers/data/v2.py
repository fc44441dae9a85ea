"""The inference protocol of Triton and KServe, version 2: named tensors as JSON or as bytes.

With the binary extension a body is a JSON header, whose length is told outside of it, and behind it
the bytes of tensors in the header's order. SageMaker's clients tell the length in the content type,
others in ``Inference-Header-Content-Length``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from handlers.data.codecs import encode_json
from handlers.data.media_types import BYTES, JSON, parse
from handlers.errors import InvalidInput, InvalidOutput, NotAcceptable, UnsupportedContentType
from handlers.types import Request, Response

LENGTH_HEADER = "Inference-Header-Content-Length"
SAGEMAKER = "application/vnd.sagemaker-triton.binary+json"
SAGEMAKER_LENGTH = "json-header-size"

# How the wire calls numpy's types.
DTYPES = {
    "BOOL": "bool",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
MAX_AXES = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """An output that a client wants, and whether as bytes."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One request: arrays by the names of inputs, writable, ``bytes`` in those of ``BYTES``.

    ``datatypes`` are those that the client named. Without ``outputs`` all are wanted, as bytes if
    ``binary``. ``raw`` is the body of a request that is one tensor and nothing else.
    """

    inputs: dict[str, Any]
    datatypes: dict[str, str]
    outputs: tuple[Asked, ...] = ()
    binary: bool = False
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    raw: bytes | None = None


def read(request: Request) -> Call:
    """What a request asks. Raises ``InvalidInput`` or ``UnsupportedContentType``."""
    length = _header_length(request)
    if length == 0 and request.body:
        return Call({}, {}, binary=True, raw=request.body)
    header = _document(request.body[:length])
    rest = _Rest(request.body, length)
    inputs: dict[str, Any] = {}
    datatypes: dict[str, str] = {}
    for tensor in _dicts(header.get("inputs"), "inputs"):
        name = _name(tensor, "inputs")
        if name in inputs:
            raise InvalidInput(f"The input {name!r} is there twice.")
        inputs[name], datatypes[name] = _array(tensor, name, rest)
    rest.check_empty()
    parameters = _parameters(header)
    binary = parameters.get("binary_data_output") is True
    asked = _dicts(header["outputs"], "outputs") if header.get("outputs") else ()
    return Call(
        inputs,
        datatypes,
        tuple(_asked(tensor, binary) for tensor in asked),
        binary,
        _id(header),
        {name: value for name, value in parameters.items() if name != "binary_data_output"},
    )


def write(
    request: Request, call: Call, outputs: Mapping[str, Any], *, model_name: str, version: str
) -> Response:
    """The answer with the outputs that the call wants, in the form of its own body.

    Raises ``InvalidOutput`` for one that the model did not give or that has no type here.
    """
    wanted = call.outputs or tuple(Asked(name, call.binary) for name in outputs)
    document: dict[str, Any] = {"model_name": model_name, "model_version": version, "outputs": []}
    if call.id:
        document["id"] = call.id
    parts: list[bytes] = []
    for asked in wanted:
        if asked.name not in outputs:
            raise InvalidOutput(f"The model gave no output {asked.name!r}.")
        tensor = _described(asked.name, outputs[asked.name])
        array = outputs[asked.name]
        if asked.binary:
            parts.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _listed(array, asked.name)
        document["outputs"].append(tensor)
    head = encode_json(document)
    if not parts:
        return Response(head, JSON)
    body = b"".join([head, *parts])
    if parse(request.content_type).essence == SAGEMAKER:
        return Response(body, f"{SAGEMAKER};{SAGEMAKER_LENGTH}={len(head)}")
    return Response(body, BYTES, headers=((LENGTH_HEADER, str(len(head))),))


def from_bytes(content: bytes, datatype: str, shape: Sequence[int], name: str) -> Any:
    """A writable array of little-endian bytes; texts have their length in front, in four bytes."""
    import numpy as np

    if datatype == "BYTES":
        items = _texts(content, name)
        if len(items) != math.prod(shape):
            raise InvalidInput(
                f"The input {name!r} holds {len(items)} texts, its shape {math.prod(shape)}."
            )
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return array.reshape(shape)
    dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise InvalidInput(
            f"The input {name!r} has {len(content)} bytes; {datatype} of shape {list(shape)} has "
            f"{math.prod(shape) * dtype.itemsize}."
        )
    return np.frombuffer(content, dtype).reshape(shape).copy()


def to_bytes(array: Any) -> bytes:
    """The bytes of an array as ``from_bytes`` reads them."""
    import numpy as np

    if array.dtype.kind in "OSU":
        texts = [_as_bytes(item) for item in array.flat]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    little = array.dtype.newbyteorder("<")
    return bytes(np.ascontiguousarray(array, dtype=little).tobytes())


def datatype_of(array: Any) -> str | None:
    """How the wire calls an array's type, or None."""
    if array.dtype.kind in "SU":
        return "BYTES"
    return _DATATYPES.get(array.dtype.name)


def _header_length(request: Request) -> int:
    """How much of the body is JSON; all of it, unless the client says otherwise."""
    media_type = parse(request.content_type or JSON)
    told = request.headers.get(LENGTH_HEADER)
    if media_type.essence == SAGEMAKER:
        told = dict(media_type.params).get(SAGEMAKER_LENGTH, told)
        if told is None:
            raise InvalidInput(f"The content type {SAGEMAKER} needs ;{SAGEMAKER_LENGTH}=N.")
    elif media_type.essence not in (JSON, BYTES):
        raise UnsupportedContentType(
            f"Content-Type {request.content_type!r} is not supported; this is a model of Triton, "
            f"which takes {JSON}, {BYTES} with {LENGTH_HEADER}, or {SAGEMAKER}."
        )
    if told is None:
        return len(request.body)
    if not told.isdecimal() or int(told[:12]) > len(request.body):
        raise InvalidInput(
            f"The length of the JSON header is {told[:40]!r}; the body has "
            f"{len(request.body)} bytes."
        )
    return int(told)


class _Rest:
    """The bytes behind the header, taken from the front."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start

    def take(self, count: int, name: str) -> bytes:
        if count > len(self._body) - self._at:
            raise InvalidInput(
                f"The input {name!r} says it has {count} bytes; {len(self._body) - self._at} are "
                "left of the body."
            )
        self._at += count
        return self._body[self._at - count : self._at]

    def check_empty(self) -> None:
        if self._at != len(self._body):
            left = len(self._body) - self._at
            raise InvalidInput(f"{left} bytes of the body belong to no input.")


def _document(head: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"The body is not valid JSON: {error}") from error
    if not isinstance(found, dict) or "inputs" not in found:
        raise InvalidInput(
            'The body must be a request of the V2 inference protocol: {"inputs": [{"name": "x", '
            '"shape": [1, 4], "datatype": "FP32", "data": [...]}]}.'
        )
    return found


def _dicts(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidInput(f"{name} must be a list of objects.")
    return value


def _name(tensor: Mapping[str, Any], where: str) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"Each of {where} must have a name.")
    return name


def _id(header: Mapping[str, Any]) -> str:
    value = header.get("id", "")
    if not isinstance(value, str):
        raise InvalidInput("id must be text.")
    return value


def _parameters(message: Mapping[str, Any]) -> dict[str, Any]:
    found = message.get("parameters", {})
    if not isinstance(found, dict):
        raise InvalidInput("parameters must be an object.")
    if "shared_memory_region" in found:
        raise InvalidInput("Shared memory is not supported; send the data in the body.")
    return found


def _asked(tensor: Mapping[str, Any], binary: bool) -> Asked:
    name = _name(tensor, "outputs")
    parameters = _parameters(tensor)
    if parameters.get("classification"):
        raise InvalidInput("The classification extension is not supported; sort the output itself.")
    return Asked(name, parameters.get("binary_data", binary) is True)


def _array(tensor: Mapping[str, Any], name: str, rest: _Rest) -> tuple[Any, str]:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype not in DTYPES:
        raise InvalidInput(f"The datatype of {name!r} must be one of {', '.join(DTYPES)}.")
    whole = isinstance(shape, list) and all(type(each) is int and each >= 0 for each in shape)
    if not whole or len(shape or ()) > MAX_AXES:
        raise InvalidInput(f"The shape of {name!r} must be a list of whole numbers.")
    assert isinstance(shape, list)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        return _from_json(tensor.get("data"), datatype, shape, name), datatype
    if type(size) is not int or size < 0:
        raise InvalidInput(f"binary_data_size of {name!r} must be a whole number.")
    return from_bytes(rest.take(size, name), datatype, shape, name), datatype


def _from_json(data: Any, datatype: str, shape: Sequence[int], name: str) -> Any:
    """The array of a list, flat or nested, in the order of rows."""
    if not isinstance(data, list):
        raise InvalidInput(f"The input {name!r} has no data: a list, or binary_data_size.")
    try:
        array = _text_array(data) if datatype == "BYTES" else _numbers(data, datatype)
        return array.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(
            f"The data of {name!r} are not {datatype} of shape {list(shape)}: {error}."
        ) from error


def _numbers(data: list[Any], datatype: str) -> Any:
    """An array of numbers, none of which is cut or changed on the way."""
    import numpy as np

    dtype = np.dtype(DTYPES[datatype])
    found = np.array(data)
    allowed = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if found.size and found.dtype.kind not in allowed:
        exact = np.array(data, dtype=object)  # numpy makes floats of ints beyond 63 bits
        if dtype.kind not in "iu" or not all(type(item) is int for item in exact.flat):
            raise ValueError("they are of another type")
        return exact.astype(dtype)
    with np.errstate(over="ignore"):
        array = found.astype(dtype)
    if dtype.kind in "iu" and not (array == found).all():
        raise ValueError("they are out of range")
    return array


def _text_array(data: list[Any]) -> Any:
    import numpy as np

    items = list(_flat(data))
    if not all(isinstance(item, str) for item in items):
        raise ValueError("texts are wanted")
    array = np.empty(len(items), dtype=object)
    array[:] = [item.encode() for item in items]
    return array


def _flat(data: list[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _texts(content: bytes, name: str) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            raise InvalidInput(f"The texts of {name!r} are cut off: each has its length in front.")
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _described(name: str, array: Any) -> dict[str, Any]:
    datatype = datatype_of(array)
    if datatype is None:
        raise InvalidOutput(f"The output {name!r} is of {array.dtype}, which the protocol has not.")
    return {"name": name, "datatype": datatype, "shape": list(array.shape)}


def _as_bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def _listed(array: Any, name: str) -> list[Any]:
    if array.dtype.kind not in "OSU":
        flat: list[Any] = array.reshape(-1).tolist()
        return flat
    try:
        return [_as_bytes(item).decode() for item in array.flat]
    except UnicodeDecodeError as error:
        raise NotAcceptable(
            f"The output {name!r} holds bytes that are no text; ask for it with "
            '"parameters": {"binary_data": true}.'
        ) from error
