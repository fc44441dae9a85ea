"""Frames over real sockets, whole whatever the cuts."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.types import HandlerOptions, Interface, ModelPlan, Resources
from model_server import wire
from model_server.errors import Problem

Pair = tuple[socket.socket, socket.socket]
HEAD = wire.InvokeHead(2**63, 7, "id", (("Accept", "a/b"), ("X-Ü", "é")))
PLAN = ModelPlan("/m", "python", Interface.SAGEMAKER, script="/m/code/x.py", code_dirs=("/m/code",))
SERVING = wire.ModelServing(1, 2, 3, 4.5, 6.5, 7, "cpu", True, 0)
WORKER = wire.WorkerInfo(1, True, 2, 3)
INFO = wire.ModelInfo("n", "/u", "READY", "f", "i", 0.5, 7, 1, [WORKER], 9, "abc", 0, SERVING)
COMMANDS: list[wire.Command] = [
    wire.Ping(),
    wire.Load("a", "/b"),
    wire.Unload("a"),
    wire.Get("🦙"),
    wire.List(5, None),
    wire.List(5, "token"),
    wire.Ensure("a"),
    wire.Fate("a", 2**63),
    wire.Metrics(),
    wire.GatewayCounts(1, 2, 3, [("/ping", 200, 3, 0.5, (1, 2))]),
]
ANSWERS: list[wire.Answer] = [
    wire.Done(),
    wire.ModelFound(INFO),
    wire.ModelPage([wire.ModelSummary("a", "/b")], "a"),
    wire.FateFound(None),
    wire.FateFound(Problem(500, "X", "died")),
    wire.Limits(2, {"a": 1.5}),
    wire.Limits(2, None),
    wire.Text("text"),
    wire.Failed(Problem(503, "Y", "busy", 1.5)),
]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.settimeout(40)
    yield ends
    for end in ends:
        end.close()


def sent_in_two(near: socket.socket, data: bytes, at: int) -> threading.Thread:
    """Send ``data`` in two parts; the second goes once the first has been taken."""

    def send() -> None:
        near.sendall(data[:at])
        near.sendall(data[at:])

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_frame_cut_at_any_byte_is_read_whole(pair: Pair, size: int) -> None:
    near, far = pair
    body = b"x" * size
    whole = wire.frame_head(HEAD, size) + body
    for at in range(1, len(whole)):
        near.send(whole[:at])
        with ThreadPoolExecutor(1) as reader:
            received = reader.submit(wire.Receiver().receive, far)
            near.send(whole[at:])
        head, got = received.result()
        assert wire.decode_invoke(head) == HEAD
        assert bytes(got) == body


def test_a_frame_sent_byte_by_byte_is_read_whole(pair: Pair) -> None:
    near, far = pair

    def dribble() -> None:
        for byte in wire.frame_head(HEAD, 5) + b"hello":
            near.send(bytes([byte]))

    sender = threading.Thread(target=dribble)
    sender.start()
    head, body = wire.Receiver().receive(far)
    sender.join()
    assert (wire.decode_invoke(head), bytes(body)) == (HEAD, b"hello")


@pytest.mark.parametrize("size", [65_000, 65_536, 65_537, 1 << 20, 30 << 20])
def test_large_bodies_are_read_whole(pair: Pair, size: int) -> None:
    near, far = pair
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    sender = sent_in_two(near, wire.frame_head(HEAD, size) + body, 100)
    head, got = wire.Receiver().receive(far)
    sender.join()
    assert wire.decode_invoke(head) == HEAD
    assert got == body


def test_a_large_head_is_read_whole(pair: Pair) -> None:
    near, far = pair
    large = wire.InvokeHead(1, 2, "id", (("X", "v" * 300_000),))
    sender = sent_in_two(near, wire.frame_head(large, 3) + b"abc", 7)
    head, body = wire.Receiver().receive(far)
    sender.join()
    assert (wire.decode_invoke(head), bytes(body)) == (large, b"abc")


def test_a_hang_up_at_any_byte_is_told() -> None:
    whole = wire.frame_head(HEAD, 5) + b"hello"
    for at in range(len(whole)):
        near, far = socket.socketpair()
        with near, far:
            near.send(whole[:at])
            near.close()
            with pytest.raises(wire.Hangup):
                wire.Receiver().receive(far)


def test_a_hang_up_in_a_large_body_is_told(pair: Pair) -> None:
    near, far = pair
    near.send(wire.frame_head(HEAD, 1 << 20) + b"x" * 1000)
    near.close()
    with pytest.raises(wire.Hangup, match=r"1048 of 1048624 bytes"):
        wire.Receiver().receive(far)


@given(
    key=st.integers(0, 2**64 - 1),
    request_id=st.text(),
    headers=st.lists(st.tuples(st.text(), st.text()), max_size=5),
)
def test_any_head_survives(key: int, request_id: str, headers: list[tuple[str, str]]) -> None:
    try:
        head = wire.InvokeHead(key, 0, request_id, tuple(headers))
        encoded = wire.encode(head)
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    assert wire.decode_invoke(encoded) == head


async def _read(data: bytes, kind: str) -> wire.Command | wire.Answer:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await (wire.read_command(reader) if kind == "command" else wire.read_answer(reader))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: type(each).__name__)
def test_each_command_survives(command: wire.Command) -> None:
    assert asyncio.run(_read(wire.message(command), "command")) == command


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: type(each).__name__)
def test_each_answer_survives(answer: wire.Answer) -> None:
    assert asyncio.run(_read(wire.message(answer), "answer")) == answer


def test_a_message_that_is_cut_is_told() -> None:
    data = wire.message(wire.Load("a", "/b"))
    for at in range(len(data)):
        with pytest.raises(asyncio.IncompleteReadError):
            asyncio.run(_read(data[:at], "command"))


def test_a_message_of_another_kind_is_no_command() -> None:
    with pytest.raises(msgspec.ValidationError):
        asyncio.run(_read(wire.message(wire.Done()), "command"))


def test_a_worker_is_described_whole() -> None:
    spec = wire.WorkerSpec(
        1, 2, "name", PLAN, HandlerOptions(program="p"), resources=Resources(threads=3)
    )
    assert wire.decode_worker_spec(wire.encode(spec)) == spec


@pytest.mark.parametrize(
    "message",
    [
        wire.ZygoteReady(0.5, 7),
        wire.ZygoteFailed("why"),
        wire.Forked(1, 2),
        wire.ForkFailed(1, "why"),
        wire.Exited(1, -9),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_word_of_a_zygote_survives(message: wire.ZygoteMessage) -> None:
    assert wire.decode_zygote_message(wire.encode(message)) == message


def test_each_word_of_a_worker_survives() -> None:
    words: list[wire.WorkerMessage] = [
        wire.WorkerReady(0.5, 7),
        wire.WorkerFailed(Problem(500, "X", "why")),
    ]
    assert [wire.decode_worker_message(wire.encode(word)) for word in words] == words
