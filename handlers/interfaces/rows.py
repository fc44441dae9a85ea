"""One request as multi-model-server and TorchServe hand it to ``handle``: a dict of its parts.

A body is under ``body``, byte for byte; the fields and files of a form are under their names.
TorchServe, and multi-model-server outside of SageMaker, decode what says that it is JSON or text.
"""

from __future__ import annotations

import json
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from handlers.data.media_types import FORM, JSON, MULTIPART, parse
from handlers.errors import InvalidInput
from handlers.types import Request

MAX_FIELDS = 10_000


def row_of(request: Request, *, decoded: bool = False) -> dict[str, Any]:
    """The request's parts by name. Raises ``InvalidInput`` for a form that is none."""
    content_type = request.content_type
    essence = parse(content_type).essence if content_type else ""
    if essence == FORM:
        return _fields(request.body)
    if essence == MULTIPART:
        parts = _parts(request.body, content_type)
        return {name: _value(body, kind, decoded) for name, body, kind in parts}
    return {"body": _value(request.body, essence, decoded) if decoded else bytearray(request.body)}


def _value(body: bytes, essence: str, decoded: bool) -> Any:
    """What is not what it says stays as it came: the handler may know better."""
    try:
        if decoded and essence == JSON:
            return json.loads(body)
        if decoded and essence.startswith("text"):
            return body.decode()
    except (ValueError, RecursionError):
        pass
    return bytearray(body)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise InvalidInput(f"The body is not a form: {error}") from error
    return {name: bytearray(value.encode()) for name, value in pairs}


def _parts(body: bytes, content_type: str) -> list[tuple[str, bytes, str]]:
    """Name, content and content type of each part of a multipart body (RFC 7578)."""
    boundary = dict(parse(content_type).params).get("boundary")
    if not boundary:
        raise InvalidInput("The Content-Type multipart/form-data needs a boundary parameter.")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise InvalidInput("The body is not multipart/form-data with that boundary, or not whole.")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> tuple[str, bytes, str]:
    head, found, content = piece.partition(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.split(b"\r\n") if line.strip()]
    headers = {
        name.decode("latin-1").strip().lower(): value.decode("utf-8", "replace").strip()
        for name, _, value in lines
    }
    disposition = headers.get("content-disposition", "")
    name = _name_in(disposition)
    if not found or name is None:
        raise InvalidInput("A part of the multipart body has no name.")
    kind = headers.get("content-type", "")
    return name, content, parse(kind).essence if kind else ""


def _name_in(disposition: str) -> str | None:
    """The name that a Content-Disposition gives, or None."""
    message = Message()
    message["content-disposition"] = disposition
    found = message.get_param("name", header="content-disposition")
    return found if isinstance(found, str) else None
