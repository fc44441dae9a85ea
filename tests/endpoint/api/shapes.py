"""Holds raw answers to botocore's models: types, required members, nothing unknown or empty."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": (int, float),
}
# Any AWS answer may have these.
COMMON_HEADERS = {"x-amzn-requestid", "x-amzn-errortype"}


def check_response(
    operation_model: OperationModel, response_dict: dict[str, Any], **_: Any
) -> None:
    """A handler of botocore's event ``before-parse``: the answer is one that AWS could give."""
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-amzn-requestid"])
    if response_dict["status_code"] >= 400:
        faults = list(_error_faults(operation_model, headers, response_dict["body"]))
    elif operation_model.service_model.protocol == "rest-json":
        faults = list(_header_faults(operation_model.output_shape, headers))
    else:
        faults = list(_body_faults(operation_model.output_shape, headers, response_dict["body"]))
    assert not faults, (operation_model.name, faults, response_dict["body"])


def _error_faults(operation: OperationModel, headers: dict[str, str], body: bytes) -> Iterator[str]:
    content = json.loads(body)
    control_plane = operation.service_model.protocol == "json"
    expected = "application/x-amz-json-1.1" if control_plane else "application/json"
    if headers["content-type"] != expected:
        yield f"content type {headers['content-type']}"
    code = headers["x-amzn-errortype"]
    if control_plane and content.pop("__type") != code:
        yield "__type and x-amzn-errortype differ"
    shape = operation.service_model.shape_for_error_code(code)
    if shape is None:  # an error that every service has
        if set(content) != {"Message"} or not isinstance(content["Message"], str):
            yield f"members of {code}: {content}"
        return
    content.pop("ErrorCode", None)  # on the wire, though not in the model
    yield from faults_of(shape, content, code)


def _header_faults(shape: StructureShape, headers: dict[str, str]) -> Iterator[str]:
    known = {
        member.serialization["name"].lower()
        for member in shape.members.values()
        if member.serialization.get("location") == "header"
    }
    for name in headers:
        if name.startswith("x-amz") and name not in known | COMMON_HEADERS:
            yield f"unknown header {name}"


def _body_faults(
    shape: StructureShape | None, headers: dict[str, str], body: bytes
) -> Iterator[str]:
    if headers["content-type"] != "application/x-amz-json-1.1":
        yield f"content type {headers['content-type']}"
    if shape is None:
        if body:
            yield "a body where there is none"
        return
    yield from faults_of(shape, json.loads(body), shape.name)


def faults_of(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What is wrong with a value of a shape."""
    match shape:
        case StructureShape():
            yield from _structure_faults(shape, value, path)
        case ListShape():
            if not isinstance(value, list):
                yield f"{path} is no list"
                return
            yield from _length_faults(shape, value, path)
            for number, item in enumerate(value):
                yield from faults_of(shape.member, item, f"{path}[{number}]")
        case MapShape():
            for key, item in value.items():
                yield from faults_of(shape.key, key, f"{path} key")
                yield from faults_of(shape.value, item, f"{path}[{key}]")
        case _:
            yield from _scalar_faults(shape, value, path)


def _structure_faults(shape: StructureShape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is no structure"
        return
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name} is missing"
    for name, item in value.items():
        if name not in shape.members:
            yield f"{path}.{name} is unknown"
        elif item in ({}, None):
            yield f"{path}.{name} is empty"
        else:
            yield from faults_of(shape.members[name], item, f"{path}.{name}")


def _scalar_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    kind = TYPES[shape.type_name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{path} is {value!r}, no {shape.type_name}"
        return
    if isinstance(value, str):
        yield from _length_faults(shape, value, path)
        enum = getattr(shape, "enum", None)
        if enum and value not in enum:
            yield f"{path} is {value!r}"
        pattern = shape.metadata.get("pattern", "")
        allowed = "\\p{" in pattern or value.startswith("file:///")
        if pattern and not allowed and not re.fullmatch(pattern, value):
            yield f"{path} is {value!r}, not as {pattern}"
    elif shape.type_name != "boolean" and value < shape.metadata.get("min", value):
        yield f"{path} is {value}"


def _length_faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", len(value))
    if not least <= len(value) <= most:
        yield f"{path} is {len(value)} long"
