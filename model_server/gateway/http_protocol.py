"""HTTP/1.1 on a connection: requests in, responses out, and its time. Knows nothing of models.

Requests on one connection are answered in order, one at a time. ``http_reader`` makes requests of
bytes; here is what becomes of them, of clients that stall, and of connections when the server
stops.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import termios
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

from archives.quoting import shown
from model_server.errors import RequestTimeout, ServerError
from model_server.gateway.http_messages import (
    BODILESS,
    HttpRequest,
    HttpResponse,
    Part,
    StreamBroken,
)
from model_server.gateway.http_reader import RequestReader

log = logging.getLogger("modelyard.http")

# A client may stop sending for this long within a request, and be idle for this long between two.
STALLED_SECONDS = 30.0
IDLE_SECONDS = 120.0

# After an early refusal the rest of the request is read and dropped for a while: closing at once
# would reset the connection, and the client would never see why.
_LINGER_SECONDS = 2.0
_MAX_PIPELINED = 16

# When the server stops, a connection accepted just now may still bring its first request.
_FIRST_REQUEST_SECONDS = 0.5
_JOINED_BYTES = 64 * 1024


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
        self._answered = self._has_served = self._advancing = self._may_proceed = False
        self._started = 0.0
        self._work: Cancellable | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._since = self._loop.time()
        self._unsent = 0  # of an answer, when last looked at
        self._lingering = False
        self._refusal: HttpResponse | None = None
        self._reader = RequestReader(shared.max_body_bytes, take=self._take, proceed=self._proceed)

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
        if self.busy and self._answered:
            self.busy = False
            self._next()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._since = self._loop.time()
        if self._lingering:
            return
        try:
            self._reader.received(nbytes)
        except ServerError as error:
            self._refuse(error)

    # --- requests and responses -----------------------------------------------------------------

    @property
    def _owes_answers(self) -> bool:
        return self.busy or bool(self._waiting)

    def _proceed(self) -> None:
        """Say "100 Continue", but not into the middle of an earlier answer."""
        self._may_proceed = True
        if not self._owes_answers:
            self._after_answers()

    def _take(self, request: HttpRequest) -> None:
        self._may_proceed = False  # its client has not waited
        self._waiting.append(request)
        if len(self._waiting) > _MAX_PIPELINED:
            self._transport.pause_reading()
        if not self.busy:
            self._next()

    def _next(self) -> None:
        """Begin with the next request that waits, if the client may be answered now."""
        if self._advancing:
            return
        self._advancing = True
        try:
            self._advance()
        finally:
            self._advancing = False
        if not self._owes_answers:
            self._after_answers()

    def _after_answers(self) -> None:
        """The client has all answers to what it sent so far."""
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            self._end_with(refusal)
        elif self._may_proceed and not self._lingering:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._may_proceed = False

    def _advance(self) -> None:
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

    def _respond(self, response: HttpResponse) -> None:
        """Send the answer of the request at hand."""
        if self._transport.is_closing():
            return
        if self._answering.method == "HEAD":
            response.length, response.body = len(response.body), b""
        if response.status in BODILESS:
            response.body, response.length, response.stream = b"", None, None
        keep_alive = self._answering.keep_alive and not self._shared.stopping
        if response.is_open_ended and self._answering.http_1_0:
            response.chunked = keep_alive = False
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
            self._next()
        # else: at most one answer waits for a slow client; resume_writing goes on

    async def _write_stream(self, head: bytes, response: HttpResponse, *, keep_alive: bool) -> None:
        self._transport.write(head)
        try:
            response.length = await self._write_parts(response)
        except (OSError, StreamBroken) as error:
            log.warning("%s: an answer broke off: %s", shown(self._answering.path), error)
            self._transport.abort()  # too late for a status: the client sees a cut body
        except Exception:
            log.exception("%s: an answer broke off", shown(self._answering.path))
            self._transport.abort()
        else:
            self._finish(response, keep_alive=keep_alive)

    async def _write_parts(self, response: HttpResponse) -> int:
        """Send a stream to its end; how many bytes it had."""
        assert response.stream is not None
        chunked = response.is_open_ended and response.chunked
        sent = 0
        async with aclosing(response.stream):  # at once: its model goes on until it is closed
            async for part in response.stream:
                sent += len(part)
                self._transport.write(_chunk(part) if chunked else part)
                await self._can_write.wait()
        if chunked:
            self._transport.write(b"0\r\n\r\n")
        return sent

    def _refuse(self, error: ServerError) -> None:
        """Answer a request that cannot be read on, and end the connection."""
        self._lingering = True
        self._refusal = self._shared.refuse(error)
        if not self._owes_answers:
            self._after_answers()

    def _end_with(self, response: HttpResponse) -> None:
        self._transport.write(response.head(keep_alive=False, date=self._shared.date))
        self._transport.write(bytes(response.body))
        self._shared.done(None, response, 0.0)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.abort)

    # --- time -----------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """End the connection when its client has stopped in the middle or is idle for long."""
        if not self._can_write.is_set():
            self._check_reading(now)
            return
        quiet = now - self._since
        if self._owes_answers or self._lingering:
            return
        if self._reader.in_message:
            if quiet > STALLED_SECONDS:
                self._refuse(RequestTimeout(f"the request stopped for {STALLED_SECONDS:g} seconds"))
        elif quiet > IDLE_SECONDS:
            self._transport.close()

    def _check_reading(self, now: float) -> None:
        """Drop a client that has stopped reading its answer.

        One that reads slowly empties the kernel's buffer for long before any more goes into it.
        """
        unsent = self._transport.get_write_buffer_size() + _unacknowledged(self._transport)
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        elif now - self._since > STALLED_SECONDS:
            self._transport.abort()

    def close_if_idle(self, now: float) -> None:
        """Close unless a request is being received or answered, or about to come on a new one."""
        if self._owes_answers or self._reader.in_message or self._lingering:
            return
        if self._has_served or now - self._since > _FIRST_REQUEST_SECONDS:
            self._transport.close()


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the client has not taken; 0 where it does not say (tcp(7))."""
    count = array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    return count[0]


def _chunk(part: Part) -> bytes:
    return b"".join((b"%x\r\n" % len(part), part, b"\r\n"))
