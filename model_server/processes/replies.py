"""What a worker sends back: whole answers, errors, and streams chunk by chunk."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

from handlers.errors import HandlerError
from handlers.types import Response
from model_server import wire
from model_server.stats import BUSY_SINCE_NS

log = logging.getLogger("modelyard.worker")

_MAX_MESSAGE_CHARS = 4096
_END = wire.PREFIX.pack(0, 0)

Chunks = Generator[bytes, None, None]


class Reply(NamedTuple):
    """An answer as it is sent; ``stream`` goes on where ``body`` ends."""

    head: wire.ReplyHead
    body: bytes
    stream: Chunks | None = None


def success(response: Response) -> Reply:
    """The reply of a request that worked."""
    streams = response.stream is not None
    head = wire.ReplyHead(response.status, response.content_type, response.headers, streams=streams)
    return Reply(head, response.body, response.stream)


def failure(status: int, kind: str, message: str) -> Reply:
    """The reply of a request that failed."""
    text = brief(message).encode("utf-8", "backslashreplace")
    return Reply(wire.ReplyHead(status, kind=kind), text)


def brief(message: str) -> str:
    """An exception's text may be megabytes (an array's repr, say); the log has it whole."""
    if len(message) <= _MAX_MESSAGE_CHARS:
        return message
    return f"{message[:_MAX_MESSAGE_CHARS]}… ({len(message)} characters in all)"


class Sending:
    """A reply on its way to its client, of a stream chunk after chunk.

    A slow client keeps nobody waiting for whom it does not matter: unless ``waits``, nothing here
    waits for a client, and ``step`` is to be called again when its socket is writable.
    """

    def __init__(
        self, connection: socket.socket, reply: Reply, slot: memoryview, *, waits: bool = False
    ) -> None:
        self.failed = False
        self.connection = connection
        self._chunks = reply.stream
        self._slot = slot
        self._pid = os.getpid()
        self._flags = 0 if waits else socket.MSG_DONTWAIT
        self._unsent: list[memoryview] = []
        self._put(wire.frame_head(reply.head, len(reply.body)), reply.body)

    def step(self) -> bool:
        """Send what the socket takes; False when the reply is at its end, or nobody wants it.

        Of a stream, the next chunk is made when the last one has gone. So while a client does not
        read, the model's code rests and its time limit does not run; when it leaves, the generator
        is closed where it stands.
        """
        try:
            if not self._unsent:
                self._go_on()
            self._send()
        except ConnectionError:
            log.debug("the gateway hung up, or its client left")
            self._end()
            return False
        return bool(self._unsent) or self._chunks is not None

    def _go_on(self) -> None:
        """Have the next chunk made, or find the stream at its end."""
        try:
            chunk = self._next()
        except HandlerError as error:  # too late for a status: say that no more comes, and why
            self.failed = True
            log.error("%s", error.message, exc_info=error.__cause__ or error)
            reply = failure(error.status, error.kind, error.message)
            self._put(wire.frame_head(reply.head, len(reply.body)), reply.body)
            self._end()
            return
        if chunk is None:
            self._put(_END, b"")
            self._end()
        elif chunk:  # an empty one would be the end
            self._put(wire.PREFIX.pack(0, len(chunk)), chunk)

    def _next(self) -> bytes | None:
        """The next chunk, None at the end. The time limit holds for each by itself."""
        assert self._chunks is not None
        self._slot[BUSY_SINCE_NS] = time.monotonic_ns()
        try:
            return next(self._chunks, None)
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # a fork that the model's code made and that came back
            self._slot[BUSY_SINCE_NS] = 0

    def _put(self, start: bytes, body: bytes) -> None:
        if len(body) < wire.JOINED_BYTES:
            self._unsent = [memoryview(start + body)]
        else:
            self._unsent = [memoryview(start), memoryview(body)]

    def _send(self) -> None:
        if len(self._unsent) > 1:
            connection = self.connection
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.LARGE_SEND_BYTES)
        while self._unsent:
            try:
                sent = self.connection.sendmsg(self._unsent, (), self._flags)
            except BlockingIOError:
                return
            self._unsent = list(_after(self._unsent, sent))

    def _end(self) -> None:
        if self._chunks is not None:
            _close(self._chunks)
            self._chunks = None


def _after(parts: list[memoryview], sent: int) -> Iterator[memoryview]:
    """What is left of these when so many bytes have gone."""
    for part in parts:
        if sent < len(part):
            yield part[sent:]
        sent = max(sent - len(part), 0)


def _close(chunks: Chunks) -> None:
    try:
        chunks.close()
    except Exception:  # the generator's own clean-up, or its refusal to end
        log.exception("the model's generator did not end cleanly")
