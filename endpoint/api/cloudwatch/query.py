"""AWS's query protocol, a form and XML, as boto3 spoke it for long and older SDKs do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from aiohttp import web
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from endpoint.api.answers import REQUEST_ID
from endpoint.api.cloudwatch.faults import fault_of
from endpoint.errors import ApiError, SerializationException, UnknownOperation

FORM = "application/x-www-form-urlencoded"
_NAMESPACE = "http://monitoring.amazonaws.com/doc/2010-08-01/"

# XML has no way to write them.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# What a form says, by the parts of its names: a value, or more of these.
_Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """A request whose form says everything."""

    def operation(self, body: bytes) -> str:
        """The form's Action."""
        action = _form(body).get("Action")
        if not action:
            raise UnknownOperation("The form names no Action: it must be one of CloudWatch.")
        return action

    def members(self, body: bytes, operation: OperationModel) -> Any:
        """The form, with values of the types that the operation has."""
        tree: _Tree = {}
        for name, value in _form(body).items():
            _put(tree, name, value)
        return _structure(operation.input_shape, tree, "")

    def result(
        self, content: dict[str, Any], operation: OperationModel, request_id: str
    ) -> web.Response:
        """The content as XML."""
        root = Element(f"{operation.name}Response", xmlns=_NAMESPACE)
        _write(SubElement(root, f"{operation.name}Result"), operation.output_shape, content)
        metadata = SubElement(root, "ResponseMetadata")
        SubElement(metadata, "RequestId").text = request_id
        return _answer(200, root, request_id)

    def failure(self, error: ApiError, request_id: str) -> web.Response:
        """The error as XML."""
        fault = fault_of(error)
        root = Element("ErrorResponse", xmlns=_NAMESPACE)
        told = SubElement(root, "Error")
        SubElement(told, "Type").text = fault.party
        SubElement(told, "Code").text = fault.query_code
        SubElement(told, "Message").text = _writable(fault.message)
        SubElement(root, "RequestId").text = request_id
        return _answer(fault.status, root, request_id)


def _answer(status: int, root: Element, request_id: str) -> web.Response:
    headers = [(REQUEST_ID, request_id), ("Content-Type", "text/xml")]
    return web.Response(status=status, body=ElementTree.tostring(root), headers=headers)


# --- requests -----------------------------------------------------------------------------------


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError as error:
        raise SerializationException(f"The request's body is not a form: {error}") from error


def _put(tree: _Tree, name: str, value: str) -> None:
    *path, last = name.split(".")
    for part in path:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SerializationException(f"'{part}' of '{name}' is a value and has parts, too.")
        tree = inner
    if isinstance(tree.setdefault(last, value), dict):
        raise SerializationException(f"'{name}' is a value and has parts, too.")


def _structure(shape: StructureShape, tree: _Tree, path: str) -> dict[str, Any]:
    return {
        name: _read(member, tree[name], f"{path}{name}")
        for name, member in shape.members.items()
        if name in tree
    }


def _read(shape: Shape, given: Any, path: str) -> Any:
    match shape:
        case StructureShape():
            return _structure(shape, _parts(given, path), f"{path}.")
        case ListShape():
            return _list(shape, _parts(given, path), path)
    if isinstance(given, dict):
        raise SerializationException(f"'{path}' must be a value, not parts.")
    return _scalar(shape.type_name, given, path)


def _list(shape: ListShape, tree: _Tree, path: str) -> list[Any]:
    items = _parts(tree.get("member", ""), path)
    if any(not (number.isascii() and number.isdecimal()) for number in items):
        raise SerializationException(f"Items of '{path}' must be numbered, as in {path}.member.1.")
    return [
        _read(shape.member, items[number], f"{path}.member.{number}")
        for number in sorted(items, key=lambda number: (len(number), number))
    ]


def _parts(given: Any, path: str) -> _Tree:
    """An empty list or structure is an empty value."""
    if isinstance(given, dict):
        return given
    if given == "":
        return {}
    raise SerializationException(f"'{path}' must have parts; it is a value.")


def _scalar(kind: str, text: str, path: str) -> Any:
    try:
        match kind:
            case "timestamp":
                time = datetime.fromisoformat(text)
                return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
            case "integer" | "long":
                return int(text)
            case "float" | "double":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError, OverflowError):
        raise SerializationException(f"The value of '{path}' is no {kind}.") from None
    return text


# --- answers ------------------------------------------------------------------------------------


def _write(node: Element, shape: Shape, value: Any) -> None:
    match shape:
        case StructureShape():
            for name, item in value.items():
                _write(SubElement(node, name), shape.members[name], item)
        case ListShape():
            for item in value:
                _write(SubElement(node, "member"), shape.member, item)
        case MapShape():
            _write_map(node, shape, value)
        case _:
            node.text = _text(shape.type_name, value)


def _write_map(node: Element, shape: MapShape, value: Mapping[str, Any]) -> None:
    for key, item in value.items():
        entry = SubElement(node, "entry")
        _write(SubElement(entry, "key"), shape.key, key)
        _write(SubElement(entry, "value"), shape.value, item)


def _text(kind: str, value: Any) -> str:
    if kind == "timestamp":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _writable(str(value))


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
