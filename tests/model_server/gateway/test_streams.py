"""Answers that a model gives piece by piece, as clients see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ...contract.endpoint import Endpoint, assert_error, path_of
from ...contract.polling import eventually
from ...contract.raw import post, request
from ...contract.server import OwnServer, Server
from .. import inside
from ..conftest import QUICK, Yard
from ..measured import measured
from ..told import Streaming, load, order, running

MIB = 1 << 20
BEHAVIOUR = "streams_as_told"
Yarded = tuple[OwnServer, Endpoint]


@pytest.fixture(scope="module")
def stream_server(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    """One gateway, so that all connections share its loop."""
    log = tmp_path_factory.mktemp("logs") / "streams.log"
    with running(models_dir, log, {**QUICK, "MODELYARD_GATEWAYS": "1"}) as own:
        yield own


@pytest.fixture
def here(
    stream_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(stream_server)
    yield stream_server, made
    made.unload_all()


@pytest.fixture
def opened(here: Yarded) -> Iterator[Streaming]:
    with closing(Streaming(here[0])) as connection:
        yield connection


def settled(read: Callable[[], Any], *, for_seconds: float = 0.5) -> Any:
    """The value once it has not changed for a while."""
    last, since = read(), time.monotonic()

    def unchanged() -> bool:
        nonlocal last, since
        now = read()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > for_seconds

    assert eventually(unchanged, within_seconds=60)
    return last


def number_in(path: Path) -> int:
    try:
        return int(path.read_text() or "0")
    except FileNotFoundError:
        return -1


def test_each_chunk_is_there_before_the_next_one_is_made(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    name, seen = here[1].loaded(BEHAVIOUR), [tmp_path / "first", tmp_path / "second"]
    opened.ask(name, order("one", {"wait": seen[0]}, "two", {"wait": seen[1]}, "three"))
    status, headers = opened.head()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert "content-length" not in headers and headers["content-type"] == "text/plain"
    assert opened.chunk() == b"one"
    seen[0].touch()
    assert opened.chunk() == b"two"
    seen[1].touch()
    assert [opened.chunk(), opened.chunk()] == [b"three", b""]


def test_a_client_of_http_1_0_gets_the_chunks_bare_and_a_close(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    name, seen = here[1].loaded(BEHAVIOUR), tmp_path / "seen"
    opened.ask(name, order("one", {"wait": seen}, "two"), "Connection: keep-alive", version="1.0")
    status, headers = opened.head()
    assert status == 200
    assert {"transfer-encoding", "content-length"}.isdisjoint(headers)
    assert headers["connection"] == "close"
    assert opened.some(3) == 3
    seen.touch()
    assert opened.to_the_close() == b"two"


def test_the_connection_is_used_again_after_a_stream(here: Yarded, opened: Streaming) -> None:
    name = here[1].loaded(BEHAVIOUR)
    for _ in range(3):
        opened.ask(name, order("a", "b"))
        assert opened.receive().body == b"ab"


def test_requests_sent_behind_a_stream_are_answered_after_it(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    endpoint = here[1]
    streams, echo, seen = endpoint.loaded(BEHAVIOUR), endpoint.loaded("echo"), tmp_path / "seen"
    opened.ask(streams, order("one", {"wait": seen}, "two"))
    opened.send(*(post(path_of(echo) + "/invoke", f"{n}".encode()) for n in range(20)))
    opened.head()
    assert opened.chunk() == b"one"
    seen.touch()
    assert opened.chunks() == b"two"
    assert [opened.receive().body for _ in range(20)] == [f"{n}".encode() for n in range(20)]


def test_a_client_that_does_not_read_stops_the_generator_and_nobody_else(
    here: Yarded, tmp_path: Path
) -> None:
    own, endpoint = here
    name, echo, made = endpoint.loaded(BEHAVIOUR), endpoint.loaded("echo"), tmp_path / "made"
    closed = tmp_path / "closed"
    with closing(Streaming(own, slow=True)) as reading:
        reading.ask(name, order({"bytes": 65536, "times": 10_000, "count": made}, closed=closed))
        assert reading.head()[0] == 200
        stopped_at = settled(lambda: number_in(made))
        assert stopped_at * 65536 < 8 * MIB
        assert endpoint.invoke(echo, b"x").content == b"x"
        assert reading.some(8 * MIB) == 8 * MIB
        assert eventually(lambda: number_in(made) > stopped_at + 64)
        assert not closed.exists()
    assert eventually(closed.exists)


@pytest.mark.parametrize("kind", [False, True], ids=["sync", "async"])
def test_a_client_that_leaves_ends_the_generator_and_the_process_serves_the_next(
    here: Yarded, tmp_path: Path, kind: bool
) -> None:
    own, endpoint = here
    name, closed = endpoint.loaded(BEHAVIOUR), tmp_path / "closed"
    before = inside.pids(endpoint, name)
    endless = order({"bytes": 1024, "times": 10**9}, closed=closed, **{"async": kind})
    with closing(Streaming(own)) as leaving:
        leaving.ask(name, endless)
        leaving.head()
        assert leaving.chunk()
        assert not closed.exists()
    assert eventually(closed.exists)
    assert endpoint.invoke(name, order("x")).text == "x"
    assert inside.pids(endpoint, name) == before


def test_a_client_that_leaves_while_the_next_chunk_is_made_ends_the_generator(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    own, endpoint = here
    name, closed, left = endpoint.loaded(BEHAVIOUR), tmp_path / "closed", tmp_path / "left"
    with closing(Streaming(own)) as leaving:
        leaving.ask(name, order("one", {"wait": left}, "two", "three", closed=closed))
        leaving.head()
        assert leaving.chunk() == b"one"
    assert measured(endpoint, lambda now: now("http_in_flight") == 0)
    left.touch()
    assert eventually(closed.exists)
    assert endpoint.invoke(name, order("x")).text == "x"


def test_a_client_that_leaves_before_the_first_chunk_ends_the_generator(
    here: Yarded, tmp_path: Path
) -> None:
    own, endpoint = here
    name = endpoint.loaded(BEHAVIOUR)
    begun, left, closed = tmp_path / "begun", tmp_path / "left", tmp_path / "closed"
    with closing(Streaming(own)) as leaving:
        endless = {"bytes": 1024, "times": 10**9}
        leaving.ask(name, order({"touch": begun}, {"wait": left}, "one", endless, closed=closed))
        assert eventually(begun.exists)
    assert measured(endpoint, lambda now: now("http_in_flight") == 0)
    left.touch()
    assert eventually(closed.exists)
    assert endpoint.invoke(name, order("x")).text == "x"


def test_what_is_raised_before_the_first_chunk_has_its_status(here: Yarded) -> None:
    endpoint = here[1]
    name = endpoint.loaded(BEHAVIOUR)
    message = assert_error(endpoint.invoke(name, order({"raise": "at once"})), 500)
    assert "at once" in message
    assert_error(endpoint.invoke(name, order({"raise": "no tea", "status": 418})), 418)
    assert endpoint.invoke(name, order("x")).text == "x"


def test_what_is_raised_in_the_middle_cuts_the_answer_and_is_counted_and_logged(
    here: Yarded, opened: Streaming
) -> None:
    own, endpoint = here
    name = endpoint.loaded(BEHAVIOUR)
    before = inside.pids(endpoint, name)
    opened.ask(name, order("one", {"raise": f"broken in {name}"}))
    assert opened.head()[0] == 200
    with pytest.raises(ConnectionError):
        opened.chunks()
    assert measured(endpoint, lambda now: now("invoke_errors_total", model=name) == 1)
    log = own.log.read_text()
    assert f"Told: broken in {name}" in log and "an answer broke off" in log
    assert endpoint.invoke(name, order("x")).text == "x"
    assert inside.pids(endpoint, name) == before


@pytest.mark.parametrize("step", [{"exit": 3}, {"os_exit": 3}])
def test_a_process_that_ends_in_the_middle_cuts_the_answer_and_is_replaced(
    here: Yarded, opened: Streaming, step: dict[str, int]
) -> None:
    endpoint = here[1]
    name = endpoint.loaded(BEHAVIOUR)
    before = inside.pids(endpoint, name)
    opened.ask(name, order("one", step))
    assert opened.head()[0] == 200
    with pytest.raises(ConnectionError):
        opened.chunks()
    assert endpoint.invoke(name, order("x")).text == "x"
    assert inside.pids(endpoint, name).isdisjoint(before)


@pytest.mark.parametrize("kind", [False, True], ids=["sync", "async"])
def test_a_generator_that_yields_nothing_is_an_empty_answer(here: Yarded, kind: bool) -> None:
    endpoint = here[1]
    response = endpoint.invoke(endpoint.loaded(BEHAVIOUR), order(**{"async": kind}))
    assert (response.status_code, response.content) == (200, b"")


def test_empty_chunks_do_not_end_a_stream(here: Yarded, opened: Streaming) -> None:
    name = here[1].loaded(BEHAVIOUR)
    opened.ask(name, order("", "a", "", "", "b", ""))
    assert opened.receive().body == b"ab"
    opened.ask(name, order("", ""))
    assert opened.receive().body == b""


def test_chunks_of_many_megabytes_arrive_whole(here: Yarded) -> None:
    endpoint = here[1]
    name = endpoint.loaded(BEHAVIOUR)
    response = endpoint.invoke(name, order("<", {"bytes": 30 * MIB, "times": 2}, ">"))
    assert response.content == b"<" + bytes(60 * MIB) + b">"
    response = endpoint.invoke(name, order({"bytes": 30 * MIB}, ">"))
    assert response.content == bytes(30 * MIB) + b">"


def test_ten_thousand_tiny_chunks_arrive_in_order(here: Yarded) -> None:
    endpoint = here[1]
    steps = [f"{number} " for number in range(10_000)]
    response = endpoint.invoke(endpoint.loaded(BEHAVIOUR), order(*steps))
    assert response.text == "".join(steps)


def test_an_async_generator_streams_as_it_goes(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    name, seen = here[1].loaded(BEHAVIOUR), tmp_path / "seen"
    opened.ask(name, order("one", {"wait": seen}, "two", **{"async": True}))
    opened.head()
    assert opened.chunk() == b"one"
    seen.touch()
    assert opened.chunks() == b"two"


def test_a_stream_may_take_longer_than_the_time_limit_if_its_chunks_do_not(
    here: Yarded,
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "request_timeout_seconds = 3")
    began = time.monotonic()
    steps = [step for number in range(8) for step in (f"{number}", {"sleep": 0.5})]
    assert endpoint.invoke(name, order(*steps)).text == "01234567"
    assert time.monotonic() - began > 3


def test_the_time_limit_does_not_run_while_the_client_reads_slowly(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "request_timeout_seconds = 2")
    before = inside.pids(endpoint, name)
    with closing(Streaming(own, slow=True)) as reading:
        reading.ask(name, order({"bytes": MIB, "times": 16}))
        began = time.monotonic()
        reading.head()
        assert eventually(lambda: time.monotonic() - began > 4)
        assert len(reading.chunks()) == 16 * MIB
    assert inside.pids(endpoint, name) == before


def test_a_stream_that_stalls_over_the_time_limit_is_cut_and_its_process_replaced(
    here: Yarded, opened: Streaming, tmp_path: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "request_timeout_seconds = 1.5")
    before = inside.pids(endpoint, name)
    opened.ask(name, order("one", {"wait": tmp_path / "never"}))
    opened.head()
    assert opened.chunk() == b"one"
    with pytest.raises(ConnectionError):
        opened.chunk()
    assert endpoint.invoke(name, order("x")).text == "x"
    assert inside.pids(endpoint, name).isdisjoint(before)
    assert "the request took more than 1.5 seconds" in own.log.read_text()


def test_an_unload_waits_for_the_end_of_a_stream(
    here: Yarded, opened: Streaming, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    endpoint = here[1]
    name, seen = endpoint.loaded(BEHAVIOUR), tmp_path / "seen"
    opened.ask(name, order("one", {"wait": seen}, "two"))
    opened.head()
    assert opened.chunk() == b"one"
    unload = threads.submit(endpoint.unload, name)
    assert eventually(lambda: endpoint.get(name).status_code == 404)
    assert not unload.done()
    seen.touch()
    assert opened.chunks() == b"two"
    assert unload.result().status_code == 200


def test_a_server_that_stops_lets_a_stream_come_to_its_end(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard()
    name, seen = endpoint.loaded(BEHAVIOUR), tmp_path / "seen"
    with closing(Streaming(own)) as reading:
        reading.ask(name, order("one", {"wait": seen}, "two"))
        reading.head()
        assert reading.chunk() == b"one"
        stopped = threads.submit(own.stop)
        assert eventually(lambda: own.ping_status() == 0)
        seen.touch()
        assert reading.chunks() == b"two"
        assert reading.is_closed_by_server()
    assert stopped.result() == 0


def test_a_server_that_stops_cuts_a_stream_that_has_no_end(
    yard: Yard, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = yard(MODELYARD_DRAIN_TIMEOUT_SECONDS="1")
    name = endpoint.loaded(BEHAVIOUR)
    with closing(Streaming(own)) as reading:
        reading.ask(name, order({"bytes": 10, "times": 10**9}))
        reading.head()
        stopped = threads.submit(own.stop)
        with pytest.raises(ConnectionError):
            while reading.chunk():
                pass
    assert stopped.result() == 0
    assert eventually(lambda: not own.processes())


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_ends_the_generator_and_keeps_the_connection(
    here: Yarded, opened: Streaming, tmp_path: Path, status: int
) -> None:
    name, closed = here[1].loaded(BEHAVIOUR), tmp_path / "closed"
    endless = order({"bytes": 1024, "times": 10**9}, status=status, closed=closed)
    opened.ask(name, endless)
    response = opened.receive(has_body=False)
    assert response.status == status
    assert "transfer-encoding" not in response.headers
    assert eventually(closed.exists)
    opened.ask(name, order("x"))
    assert opened.receive().body == b"x"


def test_a_status_set_by_the_model_is_that_of_its_stream(here: Yarded) -> None:
    endpoint = here[1]
    response = endpoint.invoke(endpoint.loaded(BEHAVIOUR), order("a", "b", status=206))
    assert (response.status_code, response.text) == (206, "ab")


def test_a_stream_that_found_its_process_dead_comes_from_the_next_one(here: Yarded) -> None:
    endpoint = here[1]
    name = endpoint.loaded(BEHAVIOUR)
    for _ in range(3):
        inside.kill(*inside.pids(endpoint, name))
        assert endpoint.invoke(name, order("a", "b")).text == "ab"


def test_a_head_request_for_a_stream_is_refused_without_a_body(
    here: Yarded, opened: Streaming
) -> None:
    name = here[1].loaded(BEHAVIOUR)
    opened.send(request("HEAD", path_of(name) + "/invoke"))
    assert opened.receive(has_body=False).status == 405
    opened.ask(name, order("x"))
    assert opened.receive().body == b"x"
