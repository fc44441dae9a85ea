"""HTTP/1.1 on a connection: bytes to requests, responses to bytes. Knows nothing of models.

An asyncio protocol on httptools (llhttp, the parser of Node.js). Bodies of a known length are
received straight into one buffer of that length; an ASGI stack in its place takes three times the
CPU for a small request and half the throughput at 1 MiB (docs/architecture.md, "The gateway").

Requests on one connection are answered in order, one at a time. What is refused: heads and bodies
over the limits, ambiguous framing (by the parser), and clients that stop in the middle.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

import httptools

from model_server.errors import (
    BadRequest,
    HeadTooLarge,
    PayloadTooLarge,
    RequestTimeout,
    ServerError,
)
from model_server.http_messages import HttpRequest, HttpResponse

log = logging.getLogger("modelyard.http")

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100

# A client may stop sending for this long within a request, and be idle for this long between two.
STALLED_SECONDS = 30.0
IDLE_SECONDS = 120.0

# After an early refusal the rest of the request is read and dropped for a while: closing at once
# would reset the connection, and the client would never see why.
_LINGER_SECONDS = 2.0
_MAX_PIPELINED = 16

# When the server stops, a connection accepted just now may still bring its first request.
_FIRST_REQUEST_SECONDS = 0.5
_SCRATCH_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024

# Shared by all connections: what is read is taken out before the next read.
_scratch = bytearray(_SCRATCH_BYTES)
_scratch_view = memoryview(_scratch)


class Cancellable(Protocol):
    """Work for a client, to be given up when the client leaves."""

    def cancel(self) -> object:
        """Give it up."""


Respond = Callable[[HttpResponse], None]
# Takes a request and a function to call once with the response, now or later.
Handler = Callable[[HttpRequest, Respond], Cancellable | None]
Refusal = Callable[[ServerError], HttpResponse]


@dataclass
class Connections:
    """What all connections of a gateway share: the handler, limits, the clock, who is there."""

    handler: Handler
    refuse: Refusal
    max_body_bytes: int
    done: Callable[[HttpRequest | None, HttpResponse, float], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    open: set[HttpProtocol] = field(default_factory=set)
    stopping: bool = False
    date: str = ""

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return sum(connection.busy for connection in self.open)

    def tick(self) -> None:
        """Once a second: set the clock, end connections that stall."""
        self.date = formatdate(usegmt=True)
        now = self.loop.time()
        for connection in list(self.open):
            connection.check_time(now)

    def stop(self) -> None:
        """Close idle connections, others after their answer. To be called until none is open."""
        self.stopping = True
        now = self.loop.time()
        for connection in list(self.open):
            connection.close_if_idle(now)


class HttpProtocol(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._loop = shared.loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set on connect
        self.busy = False
        self._answering: HttpRequest
        self._answered = self._has_served = False
        self._started = 0.0
        self._work: Cancellable | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._since = self._loop.time()
        self._unsent = 0  # of an answer, when last looked at
        self._lingering = False
        self._refusal: HttpResponse | None = None
        self._new_message()

    def _new_message(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = self._unended_bytes = 0
        self._in_message = False
        self._request: HttpRequest | None = None
        self._length: int | None = None
        self._expects_continue = False
        self._body = bytearray()
        self._filled = 0
        self._direct: memoryview | None = None
        self._complete = False

    # --- the transport --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._shared.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.open.discard(self)
        self._waiting.clear()
        self._can_write.set()
        if self._work is not None:
            self._work.cancel()  # closes the connection to the worker, which then skips it

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()
        if self.busy and self._work is None:
            self.busy = False
            self._next()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _scratch_view if self._direct is None else self._direct[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._since = self._loop.time()
        if self._lingering:
            return
        if self._direct is None:
            self._feed(_scratch_view[:nbytes])
            return
        self._filled += nbytes
        if self._filled == self._length:
            self._direct = None
            self._take_request()
            self._new_message()

    def _feed(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The parser leaves the body to another protocol. We switch to none: read the request
            # again as one that does not ask for it.
            again = self._head_without_upgrade() + bytes(data[upgrade.args[0] :])
            self._new_message()
            self._feed(memoryview(again))
            return
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ServerError) else BadRequest(f"{cause}"))
            return
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"this is not valid HTTP/1.1: {error}"))
            return
        if self._request is not None:
            if self._length is not None and not self._complete:
                self._receive_directly()
        elif self._in_message:  # a head that has not ended yet
            self._unended_bytes += len(data)
            if self._unended_bytes > 2 * MAX_HEAD_BYTES:
                self._refuse(_head_too_large())

    def _head_without_upgrade(self) -> bytes:
        assert self._request is not None
        lines = [f"{self._request.method} {self._url.decode('latin-1')} HTTP/1.1"]
        lines += [f"{key}: {value}" for key, value in self._headers if key.lower() != "upgrade"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _receive_directly(self) -> None:
        """The head is there and the body's length known: bypass the parser for the rest."""
        assert self._length is not None
        received = self._body
        self._body = bytearray(self._length)
        self._filled = len(received)
        self._body[: self._filled] = received
        if self._filled == self._length:
            self._take_request()
            self._new_message()
            return
        self._direct = memoryview(self._body)
        self._continue_if_expected()

    # --- the parser's callbacks -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._in_message = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is not None:
            return  # a trailer behind a chunked body: as if it had not been sent
        if len(self._headers) == MAX_HEADERS:
            raise _head_too_large()
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_bytes + len(self._url) > MAX_HEAD_BYTES:
            raise _head_too_large()
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._parser.get_method() == b"CONNECT":
            raise BadRequest("CONNECT is not possible here: this is no proxy")
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
        path, _, query = self._url.decode("latin-1").partition("?")
        chunked = False
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == "content-length":
                self._length = int(value)
            elif lowered == "transfer-encoding":
                chunked = True
            elif lowered == "expect":
                self._expects_continue = value.lower() == "100-continue"
        if chunked:
            self._length = None
        elif self._length is not None and self._length > self._shared.max_body_bytes:
            raise self._too_large()
        self._request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            path,
            query,
            self._headers,
            keep_alive=self._parser.should_keep_alive(),
        )
        if chunked:
            self._continue_if_expected()

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > self._shared.max_body_bytes:
            raise self._too_large()
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_upgrade():
            self._complete = True
            self._take_request()

    # --- requests and responses -----------------------------------------------------------------

    def _continue_if_expected(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_request(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        request.body = self._body
        self._in_message = False
        self._waiting.append(request)
        if len(self._waiting) > _MAX_PIPELINED:
            self._transport.pause_reading()
        if not self.busy:
            self._next()

    def _next(self) -> None:
        """Begin with the next request that waits, if the client may be answered now."""
        while self._waiting and not self.busy:
            self.busy, self._answered = True, False
            self._answering = self._waiting.popleft()
            self._started = self._loop.time()
            try:
                work = self._shared.handler(self._answering, self._respond)
            except Exception:  # handlers answer errors themselves: this one is broken
                log.exception("cannot answer")
                self._transport.abort()
                return
            if not self._answered:
                self._work = work
            if len(self._waiting) == _MAX_PIPELINED:
                self._transport.resume_reading()
        if self._refusal is not None and not self.busy:
            self._end_with(self._refusal)

    def _respond(self, response: HttpResponse) -> None:
        """Send the answer of the request at hand."""
        if self._transport.is_closing():
            return
        if self._answering.method == "HEAD":
            response.length, response.body = len(response.body), b""
        keep_alive = self._answering.keep_alive and not self._shared.stopping
        head = response.head(keep_alive=keep_alive, date=self._shared.date)
        if response.stream is not None:
            writing = self._write_stream(head, response, keep_alive=keep_alive)
            self._work = self._loop.create_task(writing)
            return
        if len(response.body) < _JOINED_BYTES:
            self._transport.write(b"".join((head, response.body)))
        else:
            self._transport.writelines((head, response.body))
        self._finish(response, keep_alive=keep_alive)

    def _finish(self, response: HttpResponse, *, keep_alive: bool) -> None:
        now = self._loop.time()
        self._shared.done(self._answering, response, now - self._started)
        self._since = now
        self._work, self._answered = None, True
        self._has_served = True
        if not keep_alive:
            self._transport.close()
        elif self._can_write.is_set():
            self.busy = False
            if self._waiting or self._refusal is not None:
                # Not at once: handlers that answer at once would pile up on the stack.
                self._loop.call_soon(self._next)
        # else: at most one answer waits for a slow client; resume_writing goes on

    async def _write_stream(self, head: bytes, response: HttpResponse, *, keep_alive: bool) -> None:
        assert response.stream is not None
        self._transport.write(head)
        try:
            async for part in response.stream:
                self._transport.write(part)
                await self._can_write.wait()
        except ConnectionError:
            self._transport.abort()  # too late for a status: the client sees a cut body
            return
        self._finish(response, keep_alive=keep_alive)

    def _refuse(self, error: ServerError) -> None:
        """Answer a request that cannot be read on, and end the connection."""
        self._lingering = True
        self._direct = None
        self._refusal = self._shared.refuse(error)
        if not self.busy:  # else its client is owed earlier answers first
            self._end_with(self._refusal)

    def _end_with(self, response: HttpResponse) -> None:
        self._transport.write(response.head(keep_alive=False, date=self._shared.date))
        self._transport.write(bytes(response.body))
        self._shared.done(None, response, 0.0)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.abort)

    def _too_large(self) -> PayloadTooLarge:
        limit = self._shared.max_body_bytes
        return PayloadTooLarge(
            f"the request body is larger than {limit} bytes; "
            "MODELYARD_MAX_BODY_BYTES sets the limit"
        )

    # --- time -----------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """End the connection when its client has stopped in the middle or is idle for long."""
        if not self._can_write.is_set():
            self._check_reading(now)
            return
        quiet = now - self._since
        if self.busy or self._lingering:
            return
        if self._in_message:
            if quiet > STALLED_SECONDS:
                self._refuse(RequestTimeout(f"the request stopped for {STALLED_SECONDS:g} seconds"))
        elif quiet > IDLE_SECONDS:
            self._transport.close()

    def _check_reading(self, now: float) -> None:
        """Drop a client that has stopped reading its answer."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        elif now - self._since > STALLED_SECONDS:
            self._transport.abort()

    def close_if_idle(self, now: float) -> None:
        """Close unless a request is being received or answered, or about to come on a new one."""
        if self.busy or self._in_message or self._lingering:
            return
        if self._has_served or now - self._since > _FIRST_REQUEST_SECONDS:
            self._transport.close()


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the request line and headers are limited to {MAX_HEAD_BYTES} bytes "
        f"and {MAX_HEADERS} headers"
    )
