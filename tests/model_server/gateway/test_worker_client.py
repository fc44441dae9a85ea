"""One request to a worker, against a hand-written server that misbehaves on request."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from model_server.gateway.worker_client import Cold, QueueFull, WorkerCall
from model_server.wire import Hangup, InvokeHead, Receiver, ReplyHead, frame_head

T = TypeVar("T")
MIB = 1 << 20
HEAD = InvokeHead(7, 0, "id", (("Accept", "a/b"),))
REPLY = ReplyHead(200, "text/plain", (("X-A", "b"),))


class HandWritten:
    """Listens on a Unix socket; ``serve`` runs a function with each accepted connection."""

    def __init__(self, path: Path, backlog: int = 16) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(backlog)
        self._threads: list[threading.Thread] = []

    def serve(self, answer: Callable[[socket.socket], None]) -> None:
        """Accept one connection in a thread, answer it, close it."""

        def run() -> None:
            with closing(self.listener.accept()[0]) as connection, suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        self.listener.close()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HandWritten]:
    made = HandWritten(tmp_path / "model.sock")
    yield made
    made.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[T]], T]:
    """Runs a coroutine on a new loop of each kind; what takes longer than 10 s has hung."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_one(work: Awaitable[T]) -> T:
        async def limited() -> T:
            return await asyncio.wait_for(work, 10)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return run_one


Run = Callable[[Awaitable[tuple[ReplyHead, bytes]]], tuple[ReplyHead, bytes]]


async def ask(
    path: str, body: bytes = b"x", *, seconds: float = 10.0, buffer_bytes: int = MIB
) -> tuple[ReplyHead, bytes]:
    """One whole request."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    call = WorkerCall(loop, path, buffer_bytes, lambda _: done.set())
    loop.call_later(seconds, call.expire)
    try:
        call.send(frame_head(HEAD, len(body)), body)
        await done.wait()
        head, reply = call.result()
        if len(reply) < call.body_bytes:
            reply = b"".join([bytes(part) async for part in call.rest()])
        return head, bytes(reply)
    finally:
        call.close()


def send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(frame_head(REPLY, len(body)) + body)


def echo(connection: socket.socket) -> None:
    send(connection, bytes(Receiver().receive(connection)[1]))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB, 3 * MIB])
@pytest.mark.parametrize("buffer_bytes", [1, MIB, 16 * MIB])
def test_bodies_of_any_size_come_back_whole(
    run: Run, server: HandWritten, size: int, buffer_bytes: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    server.serve(echo)
    assert run(ask(server.path, body, buffer_bytes=buffer_bytes)) == (REPLY, body)


def test_a_reply_that_comes_byte_by_byte_is_read_whole(run: Run, server: HandWritten) -> None:
    def dribble(connection: socket.socket) -> None:
        Receiver().receive(connection)
        for byte in frame_head(REPLY, 5) + b"hello":
            connection.send(bytes([byte]))

    server.serve(dribble)
    assert run(ask(server.path)) == (REPLY, b"hello")


def test_a_reply_may_be_cut_at_any_byte(run: Run, server: HandWritten) -> None:
    whole = frame_head(REPLY, 5) + b"hello"

    async def each(at: int) -> None:
        """Byte ``at`` and later come only when the first part has been read."""
        done = asyncio.Event()
        call = WorkerCall(asyncio.get_running_loop(), server.path, MIB, lambda _: done.set())
        connection = server.listener.accept()[0]
        with connection:
            call.send(frame_head(HEAD, 1), b"x")
            connection.send(whole[:at])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            connection.send(whole[at:])
            await done.wait()
            assert call.result() == (REPLY, b"hello")
            call.close()

    async def every() -> tuple[ReplyHead, bytes]:
        for at in range(1, len(whole)):
            await each(at)
        return REPLY, b""

    run(every())


def test_a_big_request_to_a_slow_reader_arrives_whole(run: Run, server: HandWritten) -> None:
    body = bytes(range(256)) * (16 * 1024)

    def read_slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        data = b""
        while len(data) < len(body):
            data += connection.recv(50_000)
        send(connection, data[-len(body) :][:10])

    server.serve(read_slowly)
    assert run(ask(server.path, body))[0] == REPLY


def test_an_answer_may_come_before_the_whole_request_is_read(run: Run, server: HandWritten) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        send(connection, b"enough")

    server.serve(answer)
    assert run(ask(server.path, b"x" * (8 * MIB))) == (REPLY, b"enough")


def test_a_path_that_is_not_there_is_cold(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Cold):
        run(ask(str(tmp_path / "absent.sock")))


def test_a_socket_that_nobody_listens_on_is_cold(run: Run, server: HandWritten) -> None:
    server.listener.close()
    with pytest.raises(Cold):
        run(ask(server.path))


@pytest.mark.parametrize("backlog", [0, 1, 5])
def test_a_full_backlog_is_told_at_once(run: Run, tmp_path: Path, backlog: int) -> None:
    full = HandWritten(tmp_path / "full.sock", backlog)
    with ExitStack() as stack:
        stack.callback(full.close)
        for _ in range(backlog + 1):  # the kernel lets one more wait
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            waiting.connect(full.path)
        with pytest.raises(QueueFull):
            run(ask(full.path))


PARTIAL = frame_head(REPLY, 100) + b"x" * 50


@pytest.mark.parametrize("count", [0, 1, 11, 12, 20, len(PARTIAL) - 50, len(PARTIAL)])
def test_a_hang_up_before_the_reply_is_whole_is_told(
    run: Run, server: HandWritten, count: int
) -> None:
    def hang_up(connection: socket.socket) -> None:
        Receiver().receive(connection)
        connection.sendall(PARTIAL[:count])

    server.serve(hang_up)
    with pytest.raises(Hangup):
        run(ask(server.path))


def test_a_hang_up_without_reading_the_request_is_told(run: Run, server: HandWritten) -> None:
    server.serve(lambda connection: None)
    with pytest.raises(Hangup):
        run(ask(server.path, b"x" * (8 * MIB)))


def test_a_hang_up_in_the_middle_of_a_long_body_is_told(run: Run, server: HandWritten) -> None:
    def hang_up(connection: socket.socket) -> None:
        Receiver().receive(connection)
        connection.sendall(frame_head(REPLY, 4 * MIB) + b"x" * (2 * MIB))

    server.serve(hang_up)
    with pytest.raises(Hangup):
        run(ask(server.path, buffer_bytes=MIB))


@pytest.mark.parametrize("sent", [0, 5, len(PARTIAL)])
def test_a_reply_that_does_not_come_in_time_is_a_timeout(
    run: Run, server: HandWritten, sent: int
) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(PARTIAL[:sent])
        done.wait(60)

    server.serve(stall)
    with pytest.raises(TimeoutError):
        run(ask(server.path, seconds=0.05))
    done.set()


def test_a_request_that_nobody_reads_is_a_timeout(run: Run, server: HandWritten) -> None:
    with pytest.raises(TimeoutError):
        run(ask(server.path, b"x" * (8 * MIB), seconds=0.05))


def test_a_call_that_is_closed_leaves_nothing_open(run: Run, server: HandWritten) -> None:
    async def leave() -> tuple[ReplyHead, bytes]:
        answers: list[WorkerCall] = []
        call = WorkerCall(asyncio.get_running_loop(), server.path, MIB, answers.append)
        connection = server.listener.accept()[0]
        with connection:
            call.send(frame_head(HEAD, 8 * MIB), b"x" * (8 * MIB))
            call.close()
            call.close()
            call.expire()
            assert answers == []
            while connection.recv(MIB):
                pass
        return REPLY, b""

    run(leave())
