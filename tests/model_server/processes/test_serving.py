"""The loop of a worker, with what waits in its backlog laid there before it starts."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from handlers.errors import HandlerError, InvalidInput
from handlers.types import Headers, ModelSettings, Request, Response
from model_server import wire
from model_server.processes.serving import Serving
from model_server.stats import (
    BATCHES,
    BUSY_SINCE_NS,
    FAILED,
    FINISHED,
    FURTHER,
    HANDLER_NS,
    LAST_USED_NS,
    QUEUE_NS,
    REQUEST_KEY,
    SKIPPED,
    SLOT_FIELDS,
    STARTED,
    keys_in_hand,
)
from model_server.wire import InvokeHead, frame_head

Answers = Callable[[Sequence[Request]], list[Response | HandlerError]]


@dataclass
class Batching:
    """A model that answers a batch as a function says, and notes what it was asked."""

    answers: Answers
    takes_batches: bool = True
    seen: list[list[bytes]] = field(default_factory=list)

    def invoke(self, request: Request) -> Response:
        self.seen.append([request.body])
        (answer,) = self.answers([request])
        if isinstance(answer, HandlerError):
            raise answer
        return answer

    def try_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        self.seen.append([request.body for request in batch])
        return self.answers(batch)

    def park(self) -> None:
        self.seen.append([b"park"])

    def restore(self) -> None:
        self.seen.append([b"restore"])


def echo(batch: Sequence[Request]) -> list[Response | HandlerError]:
    return [Response(request.body, "text/plain") for request in batch]


ALONE = ModelSettings()


class Bench:
    """A listening socket, a leash and a slot; ``serve`` runs until the backlog is empty."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "model.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(200)
        self.leash, self.far_leash = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.slot = memoryview(bytearray(8 * SLOT_FIELDS)).cast("Q")
        self.clients: list[socket.socket] = []

    def ask(self, body: bytes = b"", *, key: int = 0, waited_seconds: float = 0.0) -> socket.socket:
        """Lay a request into the backlog."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(40)
        client.connect(self.path)
        sent_ns = time.monotonic_ns() - int(waited_seconds * 1e9)
        head = InvokeHead(key or len(self.clients) + 1, sent_ns, f"id-{len(self.clients)}", ())
        client.sendall(frame_head(head, len(body)) + body)
        self.clients.append(client)
        return client

    def serve(self, model: Batching, settings: ModelSettings = ALONE) -> None:
        """Answer what waits, then leave."""
        self.far_leash.close()
        self.serving(model, settings).run()

    def serving(self, model: Batching, settings: ModelSettings = ALONE) -> Serving:
        return Serving(model, self.listener, self.leash, self.slot, settings)

    def answers(self) -> list[tuple[wire.ReplyHead, bytes]]:
        """What each client got."""
        found = [wire.Receiver().receive(client) for client in self.clients]
        return [(wire.decode_reply(head), body) for head, body in found]

    def close(self) -> None:
        for each in (self.listener, self.leash, self.far_leash, *self.clients):
            each.close()


@pytest.fixture
def bench(short_path: Path) -> Iterator[Bench]:
    made = Bench(short_path)
    yield made
    made.close()


def of(size: int, delay_ms: float = 0.0) -> ModelSettings:
    return ModelSettings(batch_size=size, max_batch_delay_ms=delay_ms)


def test_what_waits_is_answered_in_order_before_the_worker_leaves(bench: Bench) -> None:
    model = Batching(echo)
    for number in range(20):
        bench.ask(b"%d" % number)
    bench.serve(model)
    assert [body for _, body in bench.answers()] == [b"%d" % n for n in range(20)]
    assert model.seen == [[b"%d" % n] for n in range(20)]
    assert (bench.slot[STARTED], bench.slot[FINISHED], bench.slot[BATCHES]) == (20, 20, 0)


def test_what_waits_is_taken_as_batches_of_at_most_the_size(bench: Bench) -> None:
    model = Batching(echo)
    for number in range(10):
        bench.ask(b"%d" % number)
    bench.serve(model, of(4))
    assert [len(batch) for batch in model.seen] == [4, 4, 2]
    assert [body for _, body in bench.answers()] == [b"%d" % n for n in range(10)]
    assert (bench.slot[STARTED], bench.slot[FINISHED], bench.slot[BATCHES]) == (10, 10, 3)


def test_a_model_that_takes_no_batches_is_asked_one_by_one(bench: Bench) -> None:
    model = Batching(echo, takes_batches=False)
    for _ in range(3):
        bench.ask(b"x")
    bench.serve(model, of(8, 60_000.0))
    assert model.seen == [[b"x"]] * 3


def test_all_requests_of_a_batch_are_noted_while_it_is_in_hand(bench: Bench) -> None:
    noted: list[tuple[list[int], int, bool]] = []

    def look(batch: Sequence[Request]) -> list[Response | HandlerError]:
        slot = bench.slot
        noted.append((keys_in_hand(slot), slot[STARTED], slot[BUSY_SINCE_NS] > 0))
        return echo(batch)

    for key in (11, 12, 13, 14):
        bench.ask(key=key)
    bench.serve(Batching(look), of(3))
    assert noted == [([11, 12, 13], 3, True), ([14], 4, True)]
    assert (bench.slot[REQUEST_KEY], bench.slot[FURTHER], bench.slot[BUSY_SINCE_NS]) == (14, 0, 0)
    assert bench.slot[LAST_USED_NS] > 0 and bench.slot[HANDLER_NS] > 0 and bench.slot[QUEUE_NS] > 0


def test_elements_that_fail_are_counted_and_the_others_answered(bench: Bench) -> None:
    def some(batch: Sequence[Request]) -> list[Response | HandlerError]:
        return [
            InvalidInput("bad") if request.body == b"bad" else Response(request.body)
            for request in batch
        ]

    for body in (b"good", b"bad", b"fine"):
        bench.ask(body)
    bench.serve(Batching(some), of(8))
    assert [head.status for head, _ in bench.answers()] == [200, 400, 200]
    assert (bench.slot[FINISHED], bench.slot[FAILED]) == (3, 1)


def test_a_fault_of_ours_is_a_500_for_each_and_the_worker_goes_on(bench: Bench) -> None:
    def broken(batch: Sequence[Request]) -> list[Response | HandlerError]:
        if len(batch) > 1:
            raise RuntimeError("ours")
        return echo(batch)

    for _ in range(3):
        bench.ask(b"x")
    bench.serve(Batching(broken), of(2))
    found = bench.answers()
    assert [head.status for head, _ in found] == [500, 500, 200]
    assert found[0][1] == b"RuntimeError: ours"


def test_too_few_answers_of_a_service_fail_the_worker_and_leave_nobody_waiting(
    bench: Bench,
) -> None:
    bench.ask()
    bench.ask()
    bench.far_leash.close()
    with pytest.raises(ValueError, match="zip"):
        bench.serving(Batching(lambda batch: [Response(b"")]), of(2)).run()
    first, second = bench.clients
    assert wire.Receiver().receive(first)[1] == b""
    with pytest.raises(wire.Hangup):
        wire.Receiver().receive(second)


@pytest.mark.parametrize("size", [1, 4])
def test_code_that_ends_its_process_is_told_to_each_and_ends_the_loop(
    bench: Bench, size: int
) -> None:
    def leave(batch: Sequence[Request]) -> list[Response | HandlerError]:
        raise SystemExit(3)

    for _ in range(size):
        bench.ask()
    with pytest.raises(SystemExit):
        bench.serving(Batching(leave), of(size)).run()
    assert {(head.status, head.kind) for head, _ in bench.answers()} == {
        (500, "WorkerDiedException")
    }


def test_clients_that_left_while_they_waited_are_not_in_the_batch(bench: Bench) -> None:
    model = Batching(echo)
    for number in range(6):
        client = bench.ask(b"%d" % number, waited_seconds=1.0)
        if number % 2:
            client.close()
    bench.serve(model, of(8))
    assert model.seen == [[b"0", b"2", b"4"]]
    assert (bench.slot[SKIPPED], bench.slot[STARTED]) == (3, 3)


def test_clients_that_hang_up_anywhere_leave_no_trace(bench: Bench) -> None:
    whole = frame_head(InvokeHead(9, time.monotonic_ns(), "id", ()), 5) + b"hello"
    model = Batching(echo)
    for at in range(len(whole)):
        with socket.socket(socket.AF_UNIX) as leaving:
            leaving.connect(bench.path)
            leaving.sendall(whole[:at])
    bench.ask(b"stays")
    bench.serve(model, of(8))
    assert model.seen == [[b"stays"]]


def test_a_batch_in_which_all_have_left_is_none(bench: Bench) -> None:
    model = Batching(echo)
    for _ in range(3):
        bench.ask(waited_seconds=1.0).close()
    bench.serve(model, of(8, 60_000.0))
    assert (model.seen, bench.slot[SKIPPED], bench.slot[STARTED]) == ([], 3, 0)


def test_a_batch_waits_for_more_until_it_is_full(bench: Bench) -> None:
    model = Batching(echo)
    loop = threading.Thread(target=bench.serving(model, of(3, 60_000.0)).run)
    loop.start()
    for number in range(3):
        bench.ask(b"%d" % number)
    assert [body for _, body in bench.answers()] == [b"0", b"1", b"2"]
    bench.far_leash.close()
    loop.join(60)
    assert model.seen == [[b"0", b"1", b"2"]]


def test_a_batch_does_not_wait_when_the_worker_is_to_leave(bench: Bench) -> None:
    model = Batching(echo)
    loop = threading.Thread(target=bench.serving(model, of(3, 60_000.0)).run)
    loop.start()
    bench.ask(b"alone")
    bench.far_leash.close()
    loop.join(60)
    assert not loop.is_alive()
    assert model.seen == [[b"alone"]]
    assert bench.answers()[0][1] == b"alone"


def chunks(*parts: bytes) -> Generator[bytes, None, None]:
    yield from parts


def test_streams_of_a_batch_take_turns(bench: Bench) -> None:
    order: list[str] = []

    def slowly(name: str) -> Generator[bytes, None, None]:
        for number in range(3):
            order.append(f"{name}{number}")
            yield b"x"

    def both(batch: Sequence[Request]) -> list[Response | HandlerError]:
        return [Response(b"first", stream=slowly(r.body.decode())) for r in batch]

    bench.ask(b"a")
    bench.ask(b"b")
    bench.serve(Batching(both), of(2))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    chunk, end = wire.PREFIX.pack(0, 1) + b"x", wire.PREFIX.pack(0, 0)
    for client in bench.clients:
        data = b"".join(iter(partial(client.recv, 4096), b""))
        head_bytes, body_bytes = wire.PREFIX.unpack_from(data)
        assert wire.decode_reply(data[wire.PREFIX.size :][:head_bytes]).streams
        assert data[-len(b"first") - len(chunk * 3 + end) :] == b"first" + chunk * 3 + end
        assert body_bytes == len(b"first")


def test_a_client_that_does_not_read_delays_no_other_of_its_batch(bench: Bench) -> None:
    made: list[str] = []

    def many(name: str) -> Generator[bytes, None, None]:
        for _ in range(40):
            made.append(name)
            yield b"x" * 100_000

    def both(batch: Sequence[Request]) -> list[Response | HandlerError]:
        return [Response(b"x" * 4_000_000, stream=many(r.body.decode())) for r in batch]

    stalled, reads = bench.ask(b"stalled"), bench.ask(b"reads")
    worker = threading.Thread(target=bench.serve, args=(Batching(both), of(2)))
    worker.start()
    assert len(whole(reads)) > 8_000_000
    assert made.count("reads") == 40 and "stalled" not in made
    assert len(whole(stalled)) > 8_000_000
    worker.join(60)
    assert not worker.is_alive()
    assert made.count("stalled") == 40


def test_a_client_that_leaves_without_reading_ends_its_stream(bench: Bench) -> None:
    closed: list[str] = []

    def endless(name: str) -> Generator[bytes, None, None]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.append(name)

    def both(batch: Sequence[Request]) -> list[Response | HandlerError]:
        return [Response(b"", stream=endless(r.body.decode())) for r in batch]

    first, second = bench.ask(b"a"), bench.ask(b"b")
    worker = threading.Thread(target=bench.serve, args=(Batching(both), of(2)))
    worker.start()
    assert first.recv(1) and second.recv(1)
    first.close()
    while not closed:
        assert second.recv(100_000)
    assert closed == ["a"]
    second.close()
    worker.join(60)
    assert closed == ["a", "b"]


def whole(client: socket.socket) -> bytes:
    """All that comes, to the end of the stream."""
    data = bytearray()
    while not data.endswith(wire.PREFIX.pack(0, 0)):
        part = client.recv(1 << 20)
        assert part
        data += part
    return bytes(data)


def test_a_request_whose_stream_fails_is_counted_as_failed(bench: Bench) -> None:
    def fails() -> Generator[bytes, None, None]:
        yield b"x"
        raise InvalidInput("in the middle")

    bench.ask()
    bench.ask()
    bench.serve(Batching(lambda batch: [Response(b"", stream=fails()) for _ in batch]))
    assert (bench.slot[FINISHED], bench.slot[FAILED]) == (2, 2)


def test_an_answer_of_a_status_above_499_counts_as_failed(bench: Bench) -> None:
    bench.ask()
    bench.serve(Batching(lambda batch: [Response(b"", status=503)]))
    assert (bench.slot[FINISHED], bench.slot[FAILED]) == (1, 1)


def test_the_request_is_as_it_was_sent(bench: Bench) -> None:
    seen: list[Request] = []

    def look(batch: Sequence[Request]) -> list[Response | HandlerError]:
        seen.extend(batch)
        return echo(batch)

    client = socket.socket(socket.AF_UNIX)
    bench.clients.append(client)
    client.connect(bench.path)
    pairs = (("X-A", "1"), ("x-a", "2"))
    client.sendall(frame_head(InvokeHead(1, 0, "the-id", pairs), 3) + b"abc")
    bench.serve(Batching(look))
    (request,) = seen
    assert (request.body, request.request_id) == (b"abc", "the-id")
    assert request.headers["X-A"] == Headers(pairs)["x-a"] == "1, 2"


def test_a_fork_that_comes_back_from_a_prediction_does_not_answer(bench: Bench) -> None:
    forked: list[int] = []

    def forks(batch: Sequence[Request]) -> list[Response | HandlerError]:
        pid = os.fork()
        if pid:
            forked.append(pid)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return [Response(b"child" if pid == 0 else b"parent")]

    bench.ask()
    bench.serve(Batching(forks))
    assert [body for _, body in bench.answers()] == [b"parent"]
    assert len(forked) == 1
    assert bench.slot[FINISHED] == 1
