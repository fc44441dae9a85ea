"""Answers that a model gives piece by piece: generators, sync or async, as a response's stream.

The first chunk is made before the response is, so an exception before it has its proper status,
and headers set before it are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Any

from handlers.data.codecs import encode_json
from handlers.data.media_types import BYTES, JSON_LINES, TEXT
from handlers.errors import InvalidOutput, NotAcceptable
from handlers.interfaces.awaiting import iterated
from handlers.interfaces.context import Context
from handlers.interfaces.responses import response_of
from handlers.interfaces.user_errors import prediction_error
from handlers.types import Response

log = logging.getLogger("modelyard.handlers")


def is_stream(value: Any) -> bool:
    """Whether a returned value is sent chunk by chunk: a generator, or an iterator but no file."""
    kind: Any = type(value)
    return _streams(kind)


@lru_cache(maxsize=256)  # asked for each value that a model returns, of few types
def _streams(kind: type[object]) -> bool:
    iterates = hasattr(kind, "__next__") or hasattr(kind, "__anext__")
    return iterates and not hasattr(kind, "read")


def streamed(value: Any, context: Context, idx: int, named: str | None = None) -> Response:
    """The response of a model that returned a stream, with what it set on the context.

    ``named`` is the content type that the author returned beside it. Without one there or on the
    context, the first chunk decides: text, bytes, or lines of JSON.
    """
    source = iterated(value) if hasattr(type(value), "__anext__") else value
    try:
        first = next(source)
    except StopIteration:
        return response_of(context, idx, b"", _type(context, idx, named) or TEXT)
    stream = _encoded(first, source, context)
    body = next(stream)  # begun, so that closing it closes the source
    content_type = _type(context, idx, named) or _natural_type(first)
    return response_of(context, idx, body, content_type, stream)


def _type(context: Context, idx: int, named: str | None) -> Any:
    return named or context.get_response_content_type(idx)


def _encoded(first: Any, source: Iterator[Any], context: Context) -> Generator[bytes, None, None]:
    """The chunks as bytes. What the model raises comes out as a ``HandlerError``."""
    in_hand = context.in_hand
    try:
        yield _chunk(first)
        while True:
            context.in_hand = in_hand  # another may have been answered in the meantime
            try:
                item = next(source)
            except StopIteration:
                return
            yield _chunk(item)
    except Exception as error:
        raise prediction_error(error) from error
    finally:
        context.in_hand = in_hand
        _close(source)


def _close(source: Iterator[Any]) -> None:
    """End the model's generator. The answer is out or its client gone: nobody could be told."""
    try:
        if hasattr(source, "close"):
            source.close()
    except Exception:
        log.warning("the model's generator raised while it was closed", exc_info=True)


def _chunk(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    try:
        return encode_json(item) + b"\n"
    except NotAcceptable as error:
        raise InvalidOutput(
            f"The model's stream yielded a {type(item).__name__}, which is neither str, bytes nor "
            "JSON."
        ) from error


def _natural_type(first: Any) -> str:
    if isinstance(first, str):
        return TEXT
    return BYTES if isinstance(first, bytes | bytearray | memoryview) else JSON_LINES
