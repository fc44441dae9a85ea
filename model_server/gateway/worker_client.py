"""One request to one worker: connect, send, wait for the answer, close.

Uses the socket directly. The kernel connects a Unix socket at once or refuses at once, and a full
backlog is ``EAGAIN``, which event loops take for "in progress" and wait for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable

from model_server import wire
from model_server.gateway.http_messages import Body, Part, StreamBroken
from model_server.wire import PREFIX, Hangup, ReplyHead, decode_reply

_FIRST_READ_BYTES = 64 * 1024
_PART_BYTES = 1024 * 1024


class Cold(Exception):
    """Raised when nobody listens for the model: it is not loaded, or not now."""


class QueueFull(Exception):
    """Raised when the model's backlog is full."""


class WorkerCall:
    """A request under way. Calls ``done`` once, with itself, when ``result`` has an answer.

    A callback and not a future: those cost a turn of the event loop more. A body longer than
    ``buffer_bytes`` is left in the socket and read by ``rest``.
    """

    __slots__ = (
        "_body", "_buffer_bytes", "_done", "_error", "_filled", "_head", "_loop", "_pending",
        "_received", "_socket", "body_bytes",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        buffer_bytes: int,
        done: Callable[[WorkerCall], None],
    ) -> None:
        self._loop = loop
        self._done: Callable[[WorkerCall], None] | None = done
        self._error: Exception | None = None
        self._buffer_bytes = buffer_bytes
        self._pending: list[memoryview] = []
        self._received = b""
        self._head: ReplyHead | None = None
        self._body = bytearray()
        self._filled = 0
        self.body_bytes = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(path)
        except BlockingIOError:
            self._socket.close()
            raise QueueFull from None
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            raise Cold from None

    def send(self, head: bytes, body: Body) -> None:
        """Send a frame; what the socket does not take now goes out as it can."""
        try:
            if len(body) < wire.JOINED_BYTES:  # one copy costs less than gathering two buffers
                sent = self._socket.send(b"".join((head, body)))
            else:  # fewer rounds: the kernel grants twice its default
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.LARGE_SEND_BYTES)
                sent = self._socket.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            self._fail(_hangup())
            return
        except OSError:
            self.close()
            raise
        if sent < len(head) + len(body):
            if sent < len(head):
                self._pending.append(memoryview(head)[sent:])
                sent = len(head)
            self._pending.append(memoryview(body)[sent - len(head) :])
            self._loop.add_writer(self._socket, self._send_more)
        self._loop.add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Hang up. A worker that has not begun will skip the request; ``done`` is not called."""
        self._done = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            if self._pending:
                self._loop.remove_writer(self._socket)
            self._socket.close()

    def expire(self) -> None:
        """Its time is over: the result is a TimeoutError, unless there is one already."""
        if self._done is not None:
            self._fail(TimeoutError())

    def result(self) -> tuple[ReplyHead, bytes | bytearray]:
        """Head and body. Raises Hangup or TimeoutError."""
        if self._error is not None:
            raise self._error
        assert self._head is not None
        return self._head, self._body

    async def rest(self) -> AsyncGenerator[Part, None]:
        """The body, part by part, when it is too long for the buffer."""
        part = memoryview(self._body)
        left = self.body_bytes
        try:
            while True:
                yield part
                left -= len(part)
                if not left:
                    return
                data = await self._loop.sock_recv(self._socket, min(left, _PART_BYTES))
                if not data:
                    raise _hangup()
                part = memoryview(data)
        finally:
            self.close()

    async def chunks(self) -> AsyncGenerator[Part, None]:
        """A streamed body as it comes, in parts of any size. Raises Hangup or StreamBroken."""
        buffer, left = self._body, self.body_bytes
        try:
            while True:
                while left:
                    if not buffer:
                        await self._read_into(buffer)
                    part = bytes(buffer[:left])
                    del buffer[:left]
                    left -= len(part)
                    yield part
                head_bytes, left = await self._next_prefix(buffer)
                if head_bytes:
                    raise await self._broken(buffer, head_bytes, left)
                if not left:
                    return
        finally:
            self.close()

    async def _next_prefix(self, buffer: bytearray) -> tuple[int, int]:
        while len(buffer) < PREFIX.size:
            await self._read_into(buffer)
        head_bytes, body_bytes = PREFIX.unpack_from(buffer)
        del buffer[: PREFIX.size]
        return head_bytes, body_bytes

    async def _broken(self, buffer: bytearray, head_bytes: int, body_bytes: int) -> StreamBroken:
        while len(buffer) < head_bytes + body_bytes:
            await self._read_into(buffer)
        return StreamBroken(buffer[head_bytes : head_bytes + body_bytes].decode())

    async def _read_into(self, buffer: bytearray) -> None:
        data = await self._loop.sock_recv(self._socket, _FIRST_READ_BYTES)
        if not data:
            raise _hangup()
        buffer += data

    def _send_more(self) -> None:
        try:
            sent = self._socket.send(self._pending[0])
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._loop.remove_writer(self._socket)
            self._pending.clear()
            return  # an answer may have come before it hung up: the reader finds out
        self._pending[0] = self._pending[0][sent:]
        while self._pending and not self._pending[0]:
            self._pending.pop(0)
        if not self._pending:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            if self._head is None:
                data = self._socket.recv(_FIRST_READ_BYTES)
                if data:
                    self._begin(data)
                    return
            else:
                count = self._socket.recv_into(memoryview(self._body)[self._filled :])
                if count:
                    self._filled += count
                    if self._filled == self.body_bytes:
                        self._finish()
                    return
        except BlockingIOError:
            return
        except ConnectionResetError:
            pass  # the same as a hang-up
        self._fail(_hangup())

    def _begin(self, data: bytes) -> None:
        data = self._received + data if self._received else data
        if len(data) < PREFIX.size:
            self._received = data
            return
        head_bytes, self.body_bytes = PREFIX.unpack_from(data)
        start = PREFIX.size + head_bytes
        if len(data) < start:
            self._received = data
            return
        self._head = decode_reply(data[PREFIX.size : start])
        if self._head.streams:
            self._body = bytearray(data[start:])
            self._finish()
        elif len(data) - start == self.body_bytes:
            self._body = data[start:]  # type: ignore[assignment]  # bytes do as well
            self._finish()
        elif self.body_bytes > self._buffer_bytes:
            self._body = bytearray(data[start:])
            self._finish()
        else:
            self._filled = len(data) - start
            self._body = bytearray(self.body_bytes)
            self._body[: self._filled] = data[start:]

    def _finish(self) -> None:
        self._loop.remove_reader(self._socket)
        done, self._done = self._done, None
        if done is not None:
            done(self)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._finish()


def _hangup() -> Hangup:
    return Hangup("the worker closed without a whole answer")
