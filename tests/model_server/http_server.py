"""The HTTP protocol on a real uvloop server in a thread, with a handler that echoes."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

import pytest
import uvloop

from model_server.errors import ServerError
from model_server.gateway.http_messages import HttpRequest, HttpResponse, Part
from model_server.gateway.http_protocol import Cancellable, Connections, HttpProtocol, Respond
from model_server.gateway.http_reader import RequestReader

from ..contract.polling import eventually
from ..contract.raw import RawConnection, request

T = TypeVar("T")
MAX_BODY_BYTES = 300 * 1024
BIG = b"big " * (4 << 20)
LATER = 1000.0  # seconds from now: past every limit

AT_ONCE = b"at once " * 1024

CLEAN = request("GET", "/clean")
UPGRADE = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]+\r\n")
_HEADER = re.compile(rb"([A-Za-z-]+): ([^\r\n\0]*)\r\n")


class HttpServer:
    """Echoes; ``received`` are the requests that got through to the handler, in order.

    /at-once is answered before the handler returns,
    /wait is answered once ``gate`` is open, /big and /stream with ``BIG``, /raise never.
    """

    def __init__(self) -> None:
        self.received: list[HttpRequest] = []
        self.cancelled = 0
        self.answered: list[int] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()
        self._ready.wait(60)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self.gate = asyncio.Event(), asyncio.Event()
        self.connections = Connections(self._echo, refuse, MAX_BODY_BYTES, self._done)
        self.connections.tick()
        server = await self._loop.create_server(
            lambda: HttpProtocol(self.connections), "127.0.0.1", 0, backlog=1024
        )
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for connection in list(self.connections.open):
            connection._transport.abort()

    def _echo(self, request: HttpRequest, respond: Respond) -> Cancellable:
        self.received.append(request)
        if request.path == "/raise":
            raise RuntimeError("the handler is broken")
        if request.path == "/at-once":
            respond(HttpResponse(200, "text/plain", AT_ONCE))
            return Answered()
        return self._loop.create_task(self._answer(request, respond))

    async def _answer(self, request: HttpRequest, respond: Respond) -> None:
        respond(await self._response(request))

    async def _response(self, request: HttpRequest) -> HttpResponse:
        match request.path:
            case "/wait":
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            case "/big":
                return HttpResponse(200, "text/plain", BIG)
            case "/stream" | "/cut-stream" | "/faulty-stream":
                error = {"/cut-stream": ConnectionResetError(), "/faulty-stream": KeyError("ours")}
                stream = parts(error.get(request.path))
                return HttpResponse(200, "text/plain", stream=stream, length=len(BIG))
        return HttpResponse(200, "text/plain", bytes(request.body))

    def _done(self, request: HttpRequest | None, response: HttpResponse, seconds: float) -> None:
        self.answered.append(response.status)

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` on the server's loop, after what the loop has already been told of."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(40)

    def advance(self, seconds: float) -> None:
        """Let every connection believe that so much time has passed."""
        now = self._loop.time() + seconds

        def check() -> None:
            for connection in list(self.connections.open):
                connection.check_time(now)

        self.call(check)

    def settle(self) -> None:
        """Give the loop two turns: what has reached its sockets is read after them."""
        self.call(lambda: None)
        self.call(lambda: None)

    def open_gate(self) -> None:
        self.call(self.gate.set)

    def shut_gate(self) -> None:
        self.call(self.gate.clear)

    def connect(self) -> RawConnection:
        return RawConnection("127.0.0.1", self.port)

    def converse(self, *parts: bytes) -> list[tuple[int, bytes]]:
        """Send, never close, and return all responses up to where the server hangs up.

        Should it wait for more, it is told that a long time has passed.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=40) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for part in parts:
                    connection.sendall(part)
                    self.settle()
            except (BrokenPipeError, ConnectionResetError):
                pass  # it may have answered before
            return responses(self._read_to_the_end(connection))

    def _read_to_the_end(self, connection: socket.socket) -> bytes:
        data = b""
        connection.settimeout(0.05)
        for _ in range(200):
            try:
                read = connection.recv(1 << 20)
            except TimeoutError:
                self.advance(LATER)
                continue
            except ConnectionResetError:
                return data
            if not read:
                return data
            data += read
        raise AssertionError(f"never closed; so far: {data!r}")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(40)


class Answered:
    """Work that is done already."""

    def cancel(self) -> None:
        """Nothing is left to give up."""


def refuse(error: ServerError) -> HttpResponse:
    """An error as the gateway would answer it."""
    return HttpResponse(error.status, body=error.problem().body())


async def parts(error: Exception | None = None) -> AsyncGenerator[Part, None]:
    """``BIG`` in four parts; or half of it, and then this error."""
    quarter = len(BIG) // 4
    for number in range(4):
        if error is not None and number == 2:
            raise error
        yield BIG[number * quarter : (number + 1) * quarter]


def responses(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each response; an AssertionError unless it is nothing but responses."""
    found = []
    at = 0
    while at < len(data):
        line = _STATUS_LINE.match(data, at)
        assert line, f"not a status line: {data[at : at + 100]!r}"
        at = line.end()
        length = 0
        while header := _HEADER.match(data, at):
            at = header.end()
            if header[1].lower() == b"content-length":
                length = int(header[2])
        assert data[at : at + 2] == b"\r\n", f"not a header: {data[at : at + 100]!r}"
        at += 2 + length
        assert at <= len(data), "the last response is cut"
        found.append((int(line[1]), data[at - length : at]))
    return found


def split(data: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def feed(reader: RequestReader, data: bytes) -> None:
    """Let a reader read this as if one read after another had brought it."""
    while data:
        buffer = reader.buffer()
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        reader.received(count)
        data = data[count:]


@pytest.fixture(scope="module")
def echo_server() -> Iterator[HttpServer]:
    """One for all tests of a module."""
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def http(echo_server: HttpServer) -> HttpServer:
    """The server, having forgotten what earlier tests sent; its connections are gone."""
    for connection in list(echo_server.connections.open):
        echo_server.call(connection._transport.abort)
    assert eventually(lambda: not echo_server.connections.open)
    echo_server.shut_gate()
    echo_server.received.clear()
    echo_server.answered.clear()
    echo_server.cancelled = 0
    return echo_server
