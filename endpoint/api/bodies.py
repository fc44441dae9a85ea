"""Reads the body of a request up to a limit, and what is JSON in it."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from endpoint.errors import ApiError, SerializationException


async def read(request: web.BaseRequest, limit: int, refusal: type[ApiError]) -> bytes:
    """The whole body, as it was sent. Raises ``refusal`` for one that is too large or breaks off.

    What is left of a body that is too large is read and thrown away by aiohttp after the answer
    (``lingering_time``): most clients look at it only when they have sent everything.
    """
    if (request.content_length or 0) > limit:
        raise refusal(_too_large(limit))
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    chunks = []
    size = 0
    try:
        while chunk := await request.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise refusal(_too_large(limit))
    except (web.RequestPayloadError, ConnectionError) as error:
        raise refusal(f"The request's body broke off: {error}") from error
    return b"".join(chunks)


def decoded(body: bytes) -> Any:
    """A body that is JSON; none at all is {}. Raises SerializationException."""
    try:
        return msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SerializationException(f"The request's body is not JSON: {error}") from error


def _too_large(limit: int) -> str:
    return f"The request's body is larger than {limit} bytes, the most that is taken here."
