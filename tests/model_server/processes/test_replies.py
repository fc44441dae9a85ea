"""What a worker sends back, over a real socket."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Generator, Iterator

import pytest

from handlers.errors import PredictionFailed
from handlers.types import Response
from model_server import wire
from model_server.processes.replies import Chunks, Reply, Sending, brief, failure, success
from model_server.stats import BUSY_SINCE_NS, SLOT_FIELDS

Pair = tuple[socket.socket, socket.socket]
MIB = 1 << 20


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    for end in (near, far):
        end.settimeout(40)
    with near, far:
        yield near, far


@pytest.fixture
def slot() -> memoryview:
    return memoryview(bytearray(8 * SLOT_FIELDS)).cast("Q")


def received(far: socket.socket) -> tuple[wire.ReplyHead, bytes]:
    head, body = wire.Receiver().receive(far)
    return wire.decode_reply(head), body


class Told:
    """A generator that notes what becomes of it."""

    def __init__(self, slot: memoryview) -> None:
        self.closed = 0
        self.busy: list[bool] = []
        self._slot = slot

    def chunks(self, *parts: bytes | BaseException) -> Generator[bytes, None, None]:
        try:
            for part in parts:
                self.busy.append(self._slot[BUSY_SINCE_NS] != 0)
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self.closed += 1


def begun(pair: Pair, chunks: Chunks, slot: memoryview, *, waits: bool = True) -> Sending:
    """A stream whose head is with the client."""
    near, far = pair
    sending = Sending(
        near, Reply(wire.ReplyHead(200, streams=True), b"", chunks), slot, waits=waits
    )
    assert sending.step()
    received(far)
    return sending


@pytest.fixture
def told(slot: memoryview) -> Told:
    return Told(slot)


@pytest.mark.parametrize("size", [0, 1, 63 * 1024, 64 * 1024, 5 * MIB])
def test_an_answer_arrives_as_it_was_sent(pair: Pair, slot: memoryview, size: int) -> None:
    near, far = pair
    response = Response(bytes(size), "a/b", 201, (("X-A", "b"),))
    sending = Sending(near, success(response), slot, waits=True)
    sender = threading.Thread(target=sending.step)
    sender.start()
    head, body = received(far)
    sender.join()
    assert (head.status, head.content_type, head.headers) == (201, "a/b", (("X-A", "b"),))
    assert (head.kind, head.streams, body) == ("", False, bytes(size))


def test_a_failure_says_its_kind_and_no_megabytes() -> None:
    reply = failure(500, "PredictionException", "ü" * MIB)
    assert (reply.head.status, reply.head.kind) == (500, "PredictionException")
    assert len(reply.body) < 10_000
    assert f"({MIB} characters in all)" in reply.body.decode()


def test_text_that_is_no_unicode_can_be_sent() -> None:
    assert failure(500, "K", "a\udc80b").body == b"a\\udc80b"
    assert brief("short") == "short"


def test_a_stream_goes_out_chunk_by_chunk_and_ends_with_an_empty_one(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    far = pair[1]
    stream = begun(pair, told.chunks(b"one", b"", b"two"), slot)
    assert stream.step()
    assert received_part(far) == b"one"
    assert stream.step() and stream.step()
    assert received_part(far) == b"two"
    assert not stream.step()
    assert received_part(far) == b""
    assert (told.closed, stream.failed) == (1, False)


def received_part(far: socket.socket) -> bytes:
    head_bytes, body_bytes = wire.PREFIX.unpack(exactly(far, wire.PREFIX.size))
    assert head_bytes == 0
    return exactly(far, body_bytes)


def exactly(far: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = far.recv(count - len(data))
        assert part, "it hung up"
        data += part
    return bytes(data)


def test_the_time_limit_runs_only_while_a_chunk_is_made(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    stream = begun(pair, told.chunks(b"a", b"b"), slot)
    while stream.step():
        assert slot[BUSY_SINCE_NS] == 0
    assert told.busy == [True, True]
    assert slot[BUSY_SINCE_NS] == 0


def test_an_error_in_the_middle_is_told_and_nothing_comes_after_it(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    far = pair[1]
    stream = begun(pair, told.chunks(b"a", PredictionFailed("no more", status=507)), slot)
    assert stream.step()
    assert not stream.step()
    assert received_part(far) == b"a"
    head, body = received(far)
    assert (head.status, head.kind, body) == (507, "PredictionException", b"no more")
    assert (told.closed, stream.failed) == (1, True)


def test_a_client_that_has_left_closes_the_generator(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    far = pair[1]
    stream = begun(pair, told.chunks(*[b"x"] * 100), slot)
    assert stream.step()
    far.close()
    assert not stream.step()
    assert (told.closed, stream.failed, len(told.busy)) == (1, False, 2)


def test_an_error_to_a_client_that_has_left_is_no_other_error(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    stream = begun(pair, told.chunks(PredictionFailed("nobody hears it")), slot)
    pair[1].close()
    assert not stream.step()
    assert stream.failed


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_is_to_end_the_process_does(
    pair: Pair, slot: memoryview, told: Told, error: BaseException
) -> None:
    stream = begun(pair, told.chunks(error), slot)
    with pytest.raises(type(error)):
        stream.step()
    assert slot[BUSY_SINCE_NS] == 0


def test_a_generator_that_does_not_want_to_end_is_left_behind(
    pair: Pair, slot: memoryview, caplog: pytest.LogCaptureFixture
) -> None:
    def stubborn() -> Generator[bytes, None, None]:
        while True:
            try:
                yield b"more"
            except GeneratorExit:
                raise ValueError("never") from None

    far = pair[1]
    stream = begun(pair, stubborn(), slot)
    assert stream.step()
    far.close()
    assert not stream.step()
    assert "did not end cleanly" in caplog.text


def test_an_answer_that_nobody_wants_closes_its_stream(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    near, far = pair
    far.close()
    for part in (b"b", b""):
        chunks = told.chunks(b"a", part)
        next(chunks)
        assert not Sending(near, Reply(wire.ReplyHead(200), b"", chunks), slot).step()
    assert told.closed == 2
    assert not Sending(near, Reply(wire.ReplyHead(200), b""), slot).step()


def test_the_next_chunk_is_made_when_the_client_has_room_for_it(
    pair: Pair, slot: memoryview, told: Told
) -> None:
    near, far = pair
    near.setblocking(False)
    big = bytes(range(256)) * (MIB // 256)
    stream = begun(pair, told.chunks(*[big] * 20), slot, waits=False)
    for _ in range(100):
        assert stream.step()  # and none of them waits
    assert 0 < len(told.busy) < 20
    made = len(told.busy)
    reader = threading.Thread(target=lambda: parts.extend(received_part(far) for _ in range(21)))
    parts: list[bytes] = []
    reader.start()
    while stream.step():
        select.select([], [near], [], 10)
    reader.join()
    assert parts == [big] * 20 + [b""]
    assert made < len(told.busy) == 20


def test_chunks_of_many_megabytes_arrive_whole(pair: Pair, slot: memoryview, told: Told) -> None:
    far = pair[1]
    big = bytes(range(256)) * (20 * MIB // 256)
    stream = begun(pair, told.chunks(big), slot)
    sender = threading.Thread(target=stream.step)
    sender.start()
    assert received_part(far) == big
    sender.join()
