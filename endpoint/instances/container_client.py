"""Requests to a container over the multi-model contract, and what can go wrong with each.

Containers are not trusted: they hang, break off, lie, and answer garbage or megabytes. Whatever
they do ends as an ``Answer``, whose status the caller judges, or as one of these:

ContainerError
 ├── ContainerUnreachable   nothing was sent
 ├── ContainerLost          broke off before there was a whole answer
 ├── ContainerTimeout       no whole answer in time
 └── BadAnswer              an answer that is not HTTP, or too large, or not what was asked for
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from endpoint.instances.model_list import BadList, page_of
from endpoint.invocation import Headers

MIB = 1 << 20

# Answers to which the contract gives a meaning of its own.
OK, NOT_LOADED, LOADED_ALREADY, FULL = 200, 404, 409, 507

# Of answers that are for the endpoint itself; what models answer has a setting.
MAX_CONTROL_BYTES = MIB
# A container that pages for ever must not keep its prober from judging it.
MAX_PAGES = 10_000
MAX_LIST_BYTES = 64 * MIB
LIST_PING_TIMEOUTS = 15

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
_JSON_ACCEPTED: Headers = (("Accept", "application/json"),)
_JSON_SENT: Headers = (("Content-Type", "application/json"),)

# aiohttp warns about larger ones that come as bytes.
_MAX_BYTES_AT_ONCE = MIB
# Whole seconds are near enough for aiohttp's own timeouts; ours are exact.
_NEVER_ROUND = 1e9

# True once the request that this task sends has a connection of its own.
_connected: ContextVar[bool] = ContextVar("_connected", default=False)


class ContainerError(Exception):
    """A request that got no usable answer; the text says which request, and why."""


class ContainerUnreachable(ContainerError):
    """Raised when there is no connection, so that nothing was sent."""


class ContainerLost(ContainerError):
    """Raised when the connection broke before there was a whole answer.

    ``before_answer``: no byte of an answer came. ``reused``: the connection had served another
    request before, so that the container may have closed it without having seen this one.
    """

    def __init__(self, message: str, *, before_answer: bool, reused: bool) -> None:
        super().__init__(message)
        self.before_answer = before_answer
        self.reused = reused


class ContainerTimeout(ContainerError):
    """Raised when there was no whole answer in time; the request may have been carried out."""


class BadAnswer(ContainerError):
    """Raised for an answer that is no HTTP, larger than allowed, or not what was asked for.

    ``status`` is that of the answer, if it had one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """A container's answer, whatever its status. ``headers`` are all that came, as they came."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The start of the body, for messages."""
        return self.body[:4096].decode("utf-8", "replace").strip()


class _Connector(aiohttp.TCPConnector):
    """Without limits; tells a request that its connection is new, and gives it none that is spoilt.

    aiohttp would take what a container says unasked on an idle connection for the answer to the
    next request, which may be another tenant's.
    """

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*args, **options)
            protocol = connection.protocol
            if _connected.get() or protocol is None or not protocol.should_close:
                return connection
            connection.close()

    async def _create_connection(
        self, *args: Any, **options: Any
    ) -> aiohttp.client_proto.ResponseHandler:
        connection = await super()._create_connection(*args, **options)
        _connected.set(True)
        return connection


def open_session() -> aiohttp.ClientSession:
    """The session that all clients share: bytes go as they are, in both directions.

    Only with its own connections can a client tell whether one was ``reused``.
    """
    return aiohttp.ClientSession(
        connector=_Connector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


class ContainerClient:
    """Speaks to one container. Every method raises ContainerError; no answer's status does.

    ``url`` has no path. Model ids and headers go as given; what a header has that is not ASCII
    goes as UTF-8. Redirects are answers. A request that is cancelled closes its connection.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        connect_timeout_seconds: float,
        ping_timeout_seconds: float,
        max_body_bytes: int,
    ) -> None:
        self.url = url.rstrip("/")
        self._session = session
        self._connect_timeout_seconds = connect_timeout_seconds
        self._ping_timeout_seconds = ping_timeout_seconds
        self._max_body_bytes = max_body_bytes

    async def ping(self) -> Answer:
        """GET /ping."""
        return await self._control("GET", "/ping", (), self._ping_timeout_seconds)

    async def list_models(self) -> dict[str, str]:
        """All pages of GET /models: ids of models and their directories, "" where none is told.

        Raises BadAnswer for a status other than 200 and for what is no list of models.
        """
        seconds = LIST_PING_TIMEOUTS * self._ping_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._all_pages()
        except TimeoutError:
            raise ContainerTimeout(f"GET /models: no end of the list in {seconds:g} s") from None

    async def load(
        self, model_id: str, url: str, target_model: str, timeout_seconds: float
    ) -> Answer:
        """POST /models; ``url`` is the model's directory as the container sees it."""
        body = msgspec.json.encode({"model_name": model_id, "url": url})
        headers = (*_JSON_SENT, (TARGET_MODEL, target_model))
        return await self._control("POST", "/models", headers, timeout_seconds, body)

    async def describe(self, model_id: str) -> Answer:
        """GET /models/{id}. Not all containers can: some fail on it for a model that they have."""
        seconds = self._ping_timeout_seconds
        return await self._control("GET", _path(model_id), _JSON_ACCEPTED, seconds)

    async def unload(self, model_id: str, target_model: str, timeout_seconds: float) -> Answer:
        """DELETE /models/{id}; sent a second time if its connection breaks."""
        headers = ((TARGET_MODEL, target_model),) if target_model else ()
        return await self._control("DELETE", _path(model_id), headers, timeout_seconds)

    async def invoke(
        self, model_id: str, headers: Headers, body: bytes, timeout_seconds: float
    ) -> Answer:
        """POST /models/{id}/invoke."""
        path = _path(model_id) + "/invoke"
        return await self._send("POST", path, headers, body, timeout_seconds, self._max_body_bytes)

    async def invocations(self, headers: Headers, body: bytes, timeout_seconds: float) -> Answer:
        """POST /invocations, of a container that serves one model."""
        return await self._send(
            "POST", "/invocations", headers, body, timeout_seconds, self._max_body_bytes
        )

    async def tell(self, path: str, max_bytes: int) -> Answer:
        """GET of what the contract does not know: other containers answer as they like."""
        return await self._send("GET", path, (), b"", self._ping_timeout_seconds, max_bytes)

    async def _all_pages(self) -> dict[str, str]:
        models: dict[str, str] = {}
        tokens: set[str] = set()
        total_bytes = 0
        path = "/models"
        for _ in range(MAX_PAGES):
            answer = await self._control("GET", path, _JSON_ACCEPTED, self._ping_timeout_seconds)
            total_bytes += len(answer.body)
            if total_bytes > MAX_LIST_BYTES:
                raise BadAnswer(f"GET /models: the list has more than {MAX_LIST_BYTES} bytes")
            page, token = _page_in(answer)
            models |= page
            if token is None:
                return models
            if token in tokens:
                raise BadAnswer(f"GET /models: the list has no end; page {token!r} came twice")
            tokens.add(token)
            path = "/models?next_page_token=" + quote(token, safe="")
        raise BadAnswer(f"GET /models: the list has more than {MAX_PAGES} pages")

    async def _control(
        self, method: str, path: str, headers: Headers, seconds: float, body: bytes = b""
    ) -> Answer:
        return await self._send(method, path, headers, body, seconds, MAX_CONTROL_BYTES)

    async def _send(
        self, method: str, path: str, headers: Headers, body: bytes, seconds: float, max_bytes: int
    ) -> Answer:
        _connected.set(False)
        response = None
        try:
            response = await self._session.request(
                method,
                URL(self.url + path, encoded=True),
                headers=_text(headers),
                data=body if len(body) <= _MAX_BYTES_AT_ONCE else BytesIO(body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=seconds,
                    sock_connect=self._connect_timeout_seconds,
                    ceil_threshold=_NEVER_ROUND,
                ),
            )
            content = await _content(response, max_bytes)
        except BadAnswer as error:
            raise BadAnswer(f"{method} {path}: {error}", error.status) from None
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
            begun = response is not None
            raise self._problem(error, f"{method} {path}", seconds, begun=begun) from error
        finally:
            if response is not None:
                response.close()
        return Answer(response.status, _text(response.headers.items()), content)

    def _problem(
        self, error: Exception, request: str, seconds: float, *, begun: bool
    ) -> ContainerError:
        """What aiohttp's error means; ``begun``: the head of an answer has come."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            limit = f"{self._connect_timeout_seconds:g} s"
            return ContainerUnreachable(f"{request}: no connection to {self.url} in {limit}")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
            return ContainerUnreachable(f"{request}: no connection to {self.url}: {error}")
        if isinstance(error, TimeoutError):
            return ContainerTimeout(f"{request}: no whole answer in {seconds:g} s")
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.http.HttpProcessingError):
            return BadAnswer(f"{request}: what was answered is not HTTP: {error.message}")
        cut_head = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(
            error.message, str
        )
        before = not begun and not cut_head
        where = "before it answered" if before else "in the middle of its answer"
        return ContainerLost(
            f"{request}: the container broke off {where}",
            before_answer=before,
            reused=not _connected.get(),
        )


def _path(model_id: str) -> str:
    return "/models/" + quote(model_id, safe="")


def _page_in(answer: Answer) -> tuple[dict[str, str], str | None]:
    if answer.status != 200:
        message = f"GET /models: it must be 200, not {answer.status}: {answer.text}"
        raise BadAnswer(message.rstrip(" :"), answer.status)
    try:
        return page_of(answer.body)
    except BadList as error:
        raise BadAnswer(f"GET /models: {error}", answer.status) from None


async def _content(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body; BadAnswer as soon as it is known to be too large."""
    size = response.content_length or 0
    if size <= max_bytes:
        size = 0
    parts = []
    while size <= max_bytes and (part := await response.content.readany()):
        parts.append(part)
        size += len(part)
    if size > max_bytes:
        message = f"the answer has {size} bytes or more; it may have {max_bytes}"
        raise BadAnswer(message, response.status)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _text(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers that aiohttp writes whole: it would leave out bytes that are not UTF-8.

    They are taken as Latin-1, which is what boto3 sends.
    """
    return tuple(
        (name, value if value.isascii() else _latin_1_unless_utf_8(value))
        for name, value in headers
    )


def _latin_1_unless_utf_8(value: str) -> str:
    as_sent = value.encode("utf-8", "surrogateescape")
    try:
        return as_sent.decode()
    except UnicodeDecodeError:
        return as_sent.decode("latin-1")
