"""What a worker sends back: whole answers, errors, and streams chunk by chunk."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Generator
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

    def close(self) -> None:
        """Nobody wants it any more."""
        if self.stream is not None:
            _close(self.stream)


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


def send(connection: socket.socket, reply: Reply) -> None:
    """Send head and body. Raises ConnectionError when the gateway has hung up."""
    _send(connection, wire.frame_head(reply.head, len(reply.body)), reply.body)


def _send(connection: socket.socket, start: bytes, body: bytes) -> None:
    if len(body) < wire.JOINED_BYTES:
        connection.sendall(start + body)
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.LARGE_SEND_BYTES)
    sent = connection.sendmsg((start, body))
    if sent < len(start):
        connection.sendall(start[sent:])
        sent = len(start)
    if sent < len(start) + len(body):
        connection.sendall(memoryview(body)[sent - len(start) :])


class Stream:
    """An answer whose first chunk has been sent."""

    def __init__(self, connection: socket.socket, chunks: Chunks, slot: memoryview) -> None:
        self._connection = connection
        self._chunks = chunks
        self._slot = slot
        self._pid = os.getpid()
        self.failed = False

    def step(self) -> bool:
        """Send the next chunk; False when that was the end.

        Sending waits for the client, and while it does the model's code rests and its time limit
        does not run. When the client leaves, the generator is closed where it stands.
        """
        try:
            chunk = self._next()
            if chunk is not None:
                if chunk:  # an empty one would be the end
                    _send(self._connection, wire.PREFIX.pack(0, len(chunk)), chunk)
                return True
            self._connection.sendall(_END)
        except HandlerError as error:
            self.failed = True
            log.error("%s", error.message, exc_info=error.__cause__ or error)
            self._break(failure(error.status, error.kind, error.message))
        except ConnectionError:
            log.debug("the client left in the middle of a stream")
        _close(self._chunks)
        return False

    def _next(self) -> bytes | None:
        """The next chunk, None at the end. The time limit holds for each by itself."""
        self._slot[BUSY_SINCE_NS] = time.monotonic_ns()
        try:
            return next(self._chunks, None)
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # a fork that the model's code made and that came back
            self._slot[BUSY_SINCE_NS] = 0

    def _break(self, reply: Reply) -> None:
        """Say that no more comes, and why: too late for a status."""
        try:
            send(self._connection, reply)
        except ConnectionError:
            log.debug("the client left, too")


def _close(chunks: Chunks) -> None:
    try:
        chunks.close()
    except Exception:  # the generator's own clean-up, or its refusal to end
        log.exception("the model's generator did not end cleanly")
