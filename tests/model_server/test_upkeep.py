"""More processes while requests wait, fewer when they were not needed; no request is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_server.backoff import RETRY_FAILED_AFTER_SECONDS

from ..contract.endpoint import Endpoint
from ..contract.polling import eventually
from ..contract.server import OwnServer, Server
from . import inside
from .conftest import QUICK, Yard
from .measured import Numbers, measured
from .told import Streaming, load, order, running
from .traffic import Traffic

MIB = 1 << 20
Yarded = tuple[OwnServer, Endpoint]

# Enough to see it, little enough to wait for.
IDLE = "0.5"


@pytest.fixture(scope="module")
def elastic_server(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "elastic.log"
    settings = {**QUICK, "MODELYARD_GATEWAYS": "1", "MODELYARD_WORKER_IDLE_SECONDS": IDLE}
    with running(models_dir, log, settings) as own:
        yield own


@pytest.fixture
def here(
    elastic_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(elastic_server)
    yield elastic_server, made
    made.unload_all()


class Busy:
    """Requests that stay in their workers' hands until they are let go."""

    def __init__(
        self, endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, directory: Path
    ) -> None:
        self._endpoint, self._threads, self._name = endpoint, threads, name
        self._directory, self._release = directory, directory / "release"
        self._requests: list[Future[httpx.Response]] = []

    def add(self, count: int) -> None:
        for number in range(len(self._requests), len(self._requests) + count):
            told = {"touch": str(self._flag(number)), "wait": str(self._release)}
            request = self._threads.submit(
                self._endpoint.invoke, self._name, json.dumps(told).encode()
            )
            self._requests.append(request)

    def _flag(self, number: int) -> Path:
        return self._directory / f"begun-{number}"

    @property
    def begun(self) -> int:
        """How many are in a worker's hands."""
        return sum(self._flag(number).exists() for number in range(len(self._requests)))

    def release(self) -> list[Any]:
        self._release.touch()
        return [request.result().json() for request in self._requests]


@pytest.fixture
def busy(here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path) -> Callable[[str], Busy]:
    return lambda name: Busy(here[1], threads, name, tmp_path)


def loaded(here: Yarded, tmp_path: Path, settings: str, **environment: Any) -> str:
    own, endpoint = here
    return load(endpoint, own, "counts_loads", settings, LOADS=tmp_path / "loads", **environment)


def test_workers_come_while_requests_wait_and_go_when_they_are_idle(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, name = here[1], loaded(here, tmp_path, "max_workers = 4")
    assert len(inside.pids(endpoint, name)) == 1
    work = busy(name)
    work.add(6)
    assert eventually(lambda: work.begun == 4)
    assert len(inside.pids(endpoint, name)) == 4
    assert len({one["pid"] for one in work.release()}) == 4
    assert eventually(lambda: len(inside.pids(endpoint, name)) == 1)
    assert len((tmp_path / "loads").read_text().split()) == 1
    assert endpoint.get(name).json()["restarts"] == 0
    assert endpoint.get(name).json()["settings"]["maxWorkers"] == 4


def test_a_second_rise_is_served_like_the_first(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, name = here[1], loaded(here, tmp_path, "min_workers = 2\nmax_workers = 3")
    for number in range(2):
        folder = tmp_path / f"rise-{number}"
        folder.mkdir()
        work = busy(name)
        work._directory, work._release = folder, folder / "release"
        work.add(3)
        assert eventually(lambda work=work: work.begun == 3)  # type: ignore[misc]
        work.release()
        assert eventually(lambda: len(inside.pids(endpoint, name)) == 2)


def test_no_request_is_lost_while_workers_go(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    own, endpoint = here
    name = loaded(here, tmp_path, "max_workers = 6")
    work = busy(name)
    work.add(6)
    assert eventually(lambda: work.begun == 6)
    work.release()
    with Traffic(own, name, clients=1, body=b"") as traffic:
        assert eventually(lambda: len(inside.pids(endpoint, name)) <= 2)
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages


def test_a_worker_that_is_to_go_finishes_what_it_has_in_hand(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, name = here[1], loaded(here, tmp_path, "max_workers = 3")
    many, few = busy(name), busy(name)
    many.add(3)
    assert eventually(lambda: many.begun == 3)
    few._directory, few._release = tmp_path / "few", tmp_path / "few" / "release"
    few._directory.mkdir()
    many.release()
    few.add(1)
    assert eventually(lambda: len(inside.pids(endpoint, name)) == 1)
    assert few.begun == 1
    (answer,) = few.release()
    assert {answer["pid"]} == inside.pids(endpoint, name)


def test_a_model_that_cannot_be_forked_gets_more_workers_too(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    made = own.models_dir / "elastic-threads"
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text(
        "import threading, time\nfrom pathlib import Path\n"
        "def model_fn(d): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "def transform_fn(m, body, c, a):\n"
        "    touch, wait = body.decode().split()\n"
        "    Path(touch).touch()\n"
        "    while not Path(wait).exists(): time.sleep(0.005)\n"
        "    return 'ok'\n"
    )
    (made / "modelyard.toml").write_text("max_workers = 2\n")
    assert endpoint.load_url("elastic-threads", str(made)).status_code == 200
    begun, release = [tmp_path / "a", tmp_path / "b"], tmp_path / "release"
    requests = [
        threads.submit(endpoint.invoke, "elastic-threads", f"{flag} {release}".encode())
        for flag in begun
    ]
    assert eventually(lambda: all(flag.exists() for flag in begun))
    release.touch()
    assert [request.result().text for request in requests] == ["ok"] * 2


def test_a_worker_whose_client_reads_slowly_counts_as_busy(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, "streams_as_told", "max_workers = 2")
    with closing(Streaming(own, slow=True)) as reading:
        reading.ask(name, order({"bytes": MIB, "times": 10_000}))
        assert reading.head()[0] == 200
        assert endpoint.invoke(name, order("x")).text == "x"
        assert len(inside.pids(endpoint, name)) == 2


def test_an_unload_while_workers_are_being_added_ends_all(
    here: Yarded, busy: Callable[[str], Busy], threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    before = own.processes()
    name = loaded(here, tmp_path, "max_workers = 8")
    work = busy(name)
    work.add(8)
    assert eventually(lambda: work.begun >= 2)
    unload = threads.submit(endpoint.unload, name)
    assert eventually(lambda: endpoint.get(name).status_code == 404)
    assert all("pid" in answer or answer["code"] in (404, 503) for answer in work.release())
    assert unload.result().status_code == 200
    assert eventually(lambda: own.processes() <= before)


def test_more_workers_than_fit_into_memory_are_not_started(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard(MODELYARD_MEMORY_LIMIT_BYTES=str(420 * MIB), MODELYARD_GATEWAYS="1")
    name = load(
        endpoint, own, "counts_loads", "max_workers = 8\nshare_weights = false",
        LOADS=tmp_path / "loads", HOLDS_MB=100,
    )  # fmt: skip
    work = Busy(endpoint, threads, name, tmp_path)
    work.add(8)
    assert eventually(lambda: "no further process" in own.log.read_text())
    numbers = Numbers(endpoint)
    assert 2 <= work.begun < 4
    taken = [numbers(f"memory_{part}_bytes", ledger="ram") for part in ("held", "server")]
    assert 0 < sum(taken) <= 420 * MIB
    assert len({one["pid"] for one in work.release()}) == len(inside.pids(endpoint, name))
    assert own.log.read_text().count("no further process") < 5


def test_dead_workers_of_a_grown_model_are_replaced(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, name = here[1], loaded(here, tmp_path, "max_workers = 3")
    work = busy(name)
    work.add(3)
    assert eventually(lambda: work.begun == 3)
    before = inside.pids(endpoint, name)
    inside.kill(min(before))
    assert eventually(lambda: len(inside.pids(endpoint, name) - {min(before)}) == 3)
    answers = work.release()
    assert sum("pid" in answer for answer in answers) == 2
    assert measured(endpoint, lambda now: now("model_restarts_total", model=name) == 1)


def test_what_a_model_held_is_kept_for_the_process_that_replaces_one(
    here: Yarded, tmp_path: Path
) -> None:
    endpoint, go_on = here[1], tmp_path / "go on"
    go_on.touch()
    name = loaded(here, tmp_path, "", WAITS_FOR=go_on, HOLDS_MB=60)
    go_on.unlink()
    (pid,) = inside.pids(endpoint, name)
    inside.kill(pid)
    assert eventually(lambda: endpoint.get(name).json()["state"] == "RESTARTING")
    assert eventually(lambda: len((tmp_path / "loads").read_text().split()) == 2)
    held = {
        model["modelName"]: model["heldBytes"]["ram"]
        for model in endpoint.send("GET", "/memory").json()["models"]
    }
    assert held[name] >= 60 * MIB
    go_on.touch()
    assert endpoint.invoke(name).status_code == 200


def test_workers_killed_in_the_same_moment_are_all_replaced_and_none_is_added(
    here: Yarded, tmp_path: Path
) -> None:
    own, endpoint = here
    name = loaded(here, tmp_path, "min_workers = 2")
    before = inside.pids(endpoint, name)
    os.kill(own.process.pid, signal.SIGSTOP)  # so that it hears of both at once
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    os.kill(own.process.pid, signal.SIGCONT)
    assert eventually(lambda: endpoint.get(name).json()["restarts"] == 2)
    assert {endpoint.invoke(name).json()["pid"] for _ in range(20)} <= inside.pids(endpoint, name)
    assert len(inside.pids(endpoint, name)) == 2


def test_a_worker_that_comes_when_it_is_not_wanted_any_more_goes_again(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, go_on, loads = here[1], tmp_path / "go on", tmp_path / "loads"
    go_on.touch()
    settings = "max_workers = 2\nshare_weights = false"
    name = loaded(here, tmp_path, settings, WAITS_FOR=go_on)
    go_on.unlink()
    work = busy(name)
    work.add(2)
    assert eventually(lambda: len(loads.read_text().split()) == 2)  # the second is on its way
    work.release()
    assert eventually(lambda: "1 processes are enough" in here[0].log.read_text())
    go_on.touch()
    assert eventually(lambda: "now 2 processes" in here[0].log.read_text())
    assert eventually(lambda: len(inside.pids(endpoint, name)) == 1)
    assert endpoint.invoke(name).status_code == 200


def test_memory_is_back_in_the_books_when_workers_have_gone(
    here: Yarded, busy: Callable[[str], Busy], tmp_path: Path
) -> None:
    endpoint, settings = here[1], "max_workers = 3\nshare_weights = false"
    name = loaded(here, tmp_path, settings, HOLDS_MB=30)
    work = busy(name)
    work.add(3)
    assert eventually(lambda: work.begun == 3)
    assert measured(endpoint, lambda now: now("model_bytes", model=name) > 90 * MIB)
    work.release()
    assert measured(endpoint, lambda now: now("model_bytes", model=name) < 60 * MIB)


def test_rises_and_falls_under_steady_load_lose_no_request(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", "max_workers = 4")
    for clients in (8, 1, 8, 1):
        with Traffic(own, name, clients=clients, body=b"0.02") as traffic:
            assert eventually(lambda: (len(inside.pids(endpoint, name)) > 2) == (clients > 1))  # noqa: B023
            traffic.wait_for_more(20)
        assert traffic.failed == 0, traffic.messages


FAILS_WHEN_TOLD = """
from pathlib import Path
def model_fn(model_dir):
    if Path(model_dir, "broken").exists():
        raise ValueError("told to fail")
def transform_fn(model, body, content_type, accept):
    return "ok"
"""


@pytest.mark.slow
def test_a_worker_that_cannot_be_replaced_is_missed_but_tried_again(here: Yarded) -> None:
    own, endpoint = here
    made = own.models_dir / "fails-when-told"
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text(FAILS_WHEN_TOLD)
    (made / "modelyard.toml").write_text("min_workers = 2\nshare_weights = false\n")
    assert endpoint.load_url("failing", str(made)).status_code == 200
    (made / "broken").touch()
    inside.kill(min(inside.pids(endpoint, "failing")))
    assert eventually(lambda: "goes on with 1 of 2 processes" in own.log.read_text())
    assert endpoint.get("failing").json()["state"] == "READY"
    assert endpoint.invoke("failing").text == "ok"
    (made / "broken").unlink()
    restored = eventually(
        lambda: len(inside.pids(endpoint, "failing")) == 2,
        within_seconds=RETRY_FAILED_AFTER_SECONDS + 40,
    )
    assert restored
    assert endpoint.invoke("failing").text == "ok"
