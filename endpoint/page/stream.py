"""A viewer's connection: sends what there is for it, as fast as it takes it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from endpoint.page.viewer import Viewer

HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Accel-Buffering", "no"),  # a proxy in between is to pass on what comes at once
)

# A browser whose connection ends comes again after this.
_BEGINNING = b"retry: 1000\n\n"
_ALIVE = b": nothing has changed\n\n"
_ALIVE_SECONDS = 10.0

# One that takes nothing for so long has gone without a word, and makes room for others.
_STALLED_SECONDS = 60.0


async def send(request: web.BaseRequest, viewer: Viewer) -> web.StreamResponse:
    """Answer with all that there is for a viewer, until either ends."""
    response = web.StreamResponse(headers=HEADERS)
    try:
        async with asyncio.timeout(_STALLED_SECONDS):
            await response.prepare(request)
        message: bytes | None = _BEGINNING
        while message is not None:
            async with asyncio.timeout(_STALLED_SECONDS):
                await response.write(message)
            message = await _next(viewer)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # else its last bytes would be waited for
    return response


async def _next(viewer: Viewer) -> bytes | None:
    try:
        async with asyncio.timeout(_ALIVE_SECONDS):
            return await viewer.next()
    except TimeoutError:
        return _ALIVE
