"""The page and what it loads, for browsers.

GET /              leads browsers to it
GET /ui            the page
GET /ui/feed       what there is and what changes, as server-sent events
GET /ui/{file}     its files
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from endpoint.api.signatures import Access, Signed
from endpoint.errors import (
    AccessDenied,
    ApiError,
    BadSignature,
    NoSignature,
    NoSuchRoute,
    ServiceUnavailable,
    UnknownKey,
)
from endpoint.names import Names
from endpoint.page import files, stream
from endpoint.page.feed import Feed, Source

_PAGE = "page.html"
_LOGIN = ("WWW-Authenticate", 'Basic realm="Modelyard", charset="UTF-8"')
_REFUSED = (NoSignature, UnknownKey, BadSignature, AccessDenied)

# Each holds a connection, and what its browser has not taken yet.
MOST_VIEWERS = 64

# At the end: for viewers to be told so, before their connections are cut.
_FAREWELL_SECONDS = 0.5


class WebPages:
    """Answers browsers. ``stop`` ends all feeds."""

    def __init__(self, access: Access, names: Names, source: Source) -> None:
        self._access = access
        self._names = names
        self._feed = Feed(source)
        self._files = files.load()
        self._streams: dict[asyncio.Task[Any], web.BaseRequest] = {}
        self._stopped = False

    @staticmethod
    def takes(request: web.BaseRequest) -> bool:
        """Whether the request is one of these; an SDK never asks for them."""
        path = request.rel_url.raw_path
        if request.method != "GET":
            return False
        if path == "/":
            return "text/html" in request.headers.get("Accept", "")
        return path == "/ui" or path.startswith("/ui/")

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that it ``takes``. Raises NoSuchRoute, ServiceUnavailable."""
        try:
            key = await self._access.claim(_signed(request), passwords=True).proved(b"")
            key.authorize("GetStatus", self._names.arn("*", "*"))
        except _REFUSED as error:
            return _log_in(error)
        match request.rel_url.raw_path:
            case "/" | "/ui/":
                return web.Response(status=302, headers={"Location": "/ui"})
            case "/ui":
                return self._file(request, _PAGE)
            case "/ui/feed":
                return await self._stream(request)
            case path:
                return self._file(request, path.removeprefix("/ui/"))

    async def stop(self) -> None:
        """End all feeds, and take no more viewers."""
        self._stopped = True
        self._feed.end()
        if self._streams:
            await asyncio.wait([*self._streams], timeout=_FAREWELL_SECONDS)
        for request in self._streams.values():  # those that take nothing
            if request.transport is not None:
                request.transport.abort()

    def _file(self, request: web.BaseRequest, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            raise NoSuchRoute(f"GET {request.path} is no file of the page; the page is at /ui.")
        headers = [*files.HEADERS, ("ETag", file.etag)]
        if request.headers.get("If-None-Match") == file.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=file.content, headers=[*headers, ("Content-Type", file.content_type)]
        )

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._stopped:
            raise ServiceUnavailable("This endpoint is about to stop.")
        if self._feed.viewers >= MOST_VIEWERS:
            raise ServiceUnavailable(
                f"{MOST_VIEWERS} browsers view this page, and no more can. Close it in another one."
            )
        task = asyncio.current_task()
        assert task is not None
        self._streams[task] = request
        try:
            with self._feed.viewing() as viewer:
                return await stream.send(request, viewer)
        finally:
            del self._streams[task]


def _log_in(error: ApiError) -> web.Response:
    """A browser asks its user then; the text is for who gives up."""
    text = (
        "This page is for those who have a key of this endpoint: log in with an access key id as "
        "the name and its secret access key as the password. The key must be allowed "
        f"sagemaker:GetStatus.\n\n{error.message}\n"
    )
    return web.Response(status=401, text=text, headers=[_LOGIN, ("Cache-Control", "no-store")])


def _signed(request: web.BaseRequest) -> Signed:
    return Signed(request.method, request.raw_path, request.headers)
