"""What a model's code returned, checked and turned into a response that can be sent."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

from handlers.data.codecs import encode_json
from handlers.data.media_types import BYTES, JSON, TEXT
from handlers.data.remembered import remembered
from handlers.errors import InvalidOutput, NotAcceptable
from handlers.interfaces.context import Context
from handlers.types import Response

# RFC 9110, sections 5.6.2 and 5.5. Values go over the wire as latin-1.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# Set by the server from the body that is sent; a model's own values could only contradict it.
FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def body_of(value: Any) -> tuple[bytes, str]:
    """A returned value as bytes, with the content type it has if nothing else names one.

    str, bytes and their kin go out as they are, anything else must be JSON.
    """
    if isinstance(value, str):
        return value.encode(), TEXT
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), BYTES
    try:
        return encode_json(value), JSON
    except NotAcceptable as error:
        raise InvalidOutput(
            f"The model returned a {type(value).__name__}, which is neither str, bytes nor JSON. "
            f"{error.message}."
        ) from error


def is_response(value: Any) -> bool:
    """Whether it is a response itself, flask's or one made like it, as older containers have."""
    return hasattr(value, "get_data") and hasattr(value, "status_code")


def response_from(value: Any) -> Response:
    """Such a response as one of ours."""
    headers = [(n, v) for n, v in value.headers.items() if str(n).lower() != "content-type"]
    content_type = value.content_type or BYTES
    return build_response(bytes(value.get_data()), content_type, value.status_code, headers)


def response_of(
    context: Context,
    idx: int,
    body: bytes,
    content_type: str,
    stream: Generator[bytes, None, None] | None = None,
) -> Response:
    """A response with the status and headers that the model's code set on the context."""
    processor = context.request_processor[idx]
    headers = processor.get_response_headers().items()
    kept = [(name, value) for name, value in headers if str(name).lower() != "content-type"]
    return build_response(body, content_type, processor.get_response_status_code(), kept, stream)


def build_response(
    body: bytes,
    content_type: str,
    status: Any = 200,
    headers: Sequence[tuple[Any, Any]] = (),
    stream: Generator[bytes, None, None] | None = None,
) -> Response:
    """A response of checked parts. Raises ``InvalidOutput`` for one that HTTP cannot carry."""
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise InvalidOutput(f"The model set the status {status!r}; use an int from 200 to 599.")
    checked = _checked(headers) if headers else ()
    return Response(body, _content_type(content_type), status, checked, stream)


def _checked(headers: Sequence[tuple[Any, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple(header(name, value) for name, value in headers if str(name).lower() not in FRAMING)


def _content_type(value: Any) -> str:
    return _checked_type(value) if isinstance(value, str) else header("content-type", value)[1]


@remembered
def _checked_type(value: str) -> str:
    return header("content-type", value)[1]


def header(name: Any, value: Any) -> tuple[str, str]:
    """A header that cannot break the response it is part of. Numbers become text."""
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
        raise InvalidOutput(f"The model set a header named {name!r}, which HTTP does not allow.")
    if not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
        raise InvalidOutput(
            f"The model set the header {name} to {value!r}; use str without line breaks, "
            "in latin-1."
        )
    return name, value.strip()
