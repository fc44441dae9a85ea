"""Processes of models die, models vanish: what their clients see, and nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_server.backoff import RETRY_FAILED_AFTER_SECONDS

from ..contract.endpoint import BEHAVIOURS, Endpoint, assert_error
from ..contract.polling import eventually
from ..contract.processes import is_running
from ..contract.server import OwnServer
from . import inside
from .conftest import Yard
from .measured import Numbers, measured
from .traffic import Traffic

Shared = tuple[OwnServer, Endpoint]
MIB = 1 << 20


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The file that the model ``sleeps`` makes when it begins."""
    return tmp_path / "started"


def test_an_idle_worker_that_is_killed_costs_no_request(shared: Shared) -> None:
    own, endpoint = shared
    idle, busy = endpoint.loaded("echo"), endpoint.loaded("echo")
    with Traffic(own, busy) as traffic:
        (killed,) = inside.pids(endpoint, idle)
        inside.kill(killed)
        assert endpoint.invoke(idle, b"x").content == b"x"
        traffic.wait_for_more(20)
    assert inside.pids(endpoint, idle).isdisjoint({killed})
    assert traffic.failed == 0


def test_a_worker_that_is_killed_under_load_costs_only_the_request_in_its_hands(
    shared: Shared,
) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    kills = 3
    with Traffic(own, name) as traffic:
        for _ in range(kills):
            (killed,) = inside.pids(endpoint, name)
            inside.kill(killed)
            traffic.wait_for_more(20)
            assert eventually(lambda: len(inside.pids(endpoint, name)) == 1)
    assert traffic.outcomes.keys() <= {200, 500}
    assert traffic.failed <= kills, traffic.outcomes
    assert endpoint.get(name).json()["restarts"] == kills


def test_the_request_in_the_hands_of_a_killed_worker_fails_and_those_behind_it_do_not(
    shared: Shared, threads: ThreadPoolExecutor, started: Path
) -> None:
    _, endpoint = shared
    name = endpoint.loaded("sleeps")
    first = threads.submit(endpoint.invoke, name, f"60 {started}".encode())
    assert eventually(started.exists)
    behind = [threads.submit(endpoint.invoke, name, b"0") for _ in range(5)]
    assert measured(endpoint, lambda now: now("model_queued", model=name) == 5)
    (killed,) = inside.pids(endpoint, name)
    inside.kill(killed)
    message = assert_error(first.result(), 500)
    assert "killed by signal 9 (SIGKILL)" in message
    assert [request.result().text for request in behind] == ["slept 0"] * 5


def test_what_else_is_loaded_does_not_notice(
    shared: Shared, threads: ThreadPoolExecutor, started: Path
) -> None:
    own, endpoint = shared
    sleeping, killed = endpoint.loaded("sleeps"), endpoint.loaded("echo")
    other = threads.submit(endpoint.invoke, sleeping, f"0.5 {started}".encode())
    assert eventually(started.exists)
    inside.kill(*inside.pids(endpoint, killed))
    assert other.result().text == "slept 0.5"
    assert own.ping_status() == 200


@pytest.fixture
def vanishing(shared: Shared) -> Iterator[Path]:
    """A model's directory that a test may remove."""
    path = shared[0].models_dir / "vanishing"
    shutil.copytree(BEHAVIOURS / "echo", path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_model_whose_files_are_gone_fails_with_the_reason_until_it_is_unloaded(
    shared: Shared, vanishing: Path
) -> None:
    _, endpoint = shared
    assert endpoint.load_url("vanishing", str(vanishing)).status_code == 200
    (pid,) = inside.pids(endpoint, "vanishing")
    shutil.rmtree(vanishing)
    inside.kill(pid)
    response = endpoint.invoke("vanishing", b"x")
    message = assert_error(response, 503)
    assert "vanishing" in message and "cannot be brought back" in message
    assert "No such file or directory" in message
    assert 1 <= int(response.headers["retry-after"]) <= RETRY_FAILED_AFTER_SECONDS
    told = endpoint.get("vanishing").json()
    assert (told["state"], told["workers"], told["privateBytes"]) == ("FAILED", [], 0)
    assert Numbers(endpoint)("model_bytes", model="vanishing") == 0
    assert "vanishing" in endpoint.names()
    assert endpoint.load_url("vanishing", str(vanishing)).status_code in (404, 409)
    assert endpoint.unload("vanishing").status_code == 200
    assert_error(endpoint.invoke("vanishing"), 404)


def test_a_model_whose_files_are_gone_names_the_directory(shared: Shared, vanishing: Path) -> None:
    _, endpoint = shared
    assert endpoint.load_url("vanishing", str(vanishing)).status_code == 200
    (pid,) = inside.pids(endpoint, "vanishing")
    shutil.rmtree(vanishing)
    inside.kill(pid)
    message = assert_error(endpoint.invoke("vanishing", b"x"), 503)
    endpoint.unload("vanishing")
    assert str(vanishing) in message


def test_a_model_that_failed_can_be_loaded_again_at_once(shared: Shared, vanishing: Path) -> None:
    _, endpoint = shared
    endpoint.load_url("vanishing", str(vanishing))
    (pid,) = inside.pids(endpoint, "vanishing")
    shutil.rmtree(vanishing)
    inside.kill(pid)
    assert_error(endpoint.invoke("vanishing", b"x"), 503)
    shutil.copytree(BEHAVIOURS / "echo", vanishing)
    assert endpoint.unload("vanishing").status_code == 200
    assert endpoint.load_url("vanishing", str(vanishing)).status_code == 200
    assert endpoint.invoke("vanishing", b"x").content == b"x"


def test_a_model_that_is_being_brought_back_can_be_unloaded(
    shared: Shared, vanishing: Path
) -> None:
    _, endpoint = shared
    for _ in range(5):
        endpoint.load_url("vanishing", str(vanishing))
        (pid,) = inside.pids(endpoint, "vanishing")
        inside.kill(pid)
        assert endpoint.unload("vanishing").status_code == 200
        assert_error(endpoint.get("vanishing"), 404)


def test_unloading_during_a_load_ends_both(shared: Shared, threads: ThreadPoolExecutor) -> None:
    own, endpoint = shared
    before = own.processes()
    loading = threads.submit(endpoint.load, "never_returns_on_load", "endless")
    assert eventually(lambda: bool(own.processes() - before))
    assert endpoint.get("endless").json()["state"] == "LOADING"
    assert endpoint.unload("endless").status_code == 200
    assert "unloaded while it was loading" in assert_error(loading.result(), 503)
    assert eventually(lambda: own.processes() <= before)


def test_loads_of_one_name_at_once_load_it_once(
    shared: Shared, threads: ThreadPoolExecutor
) -> None:
    _, endpoint = shared
    endpoint.url_of("echo")
    loads = [threads.submit(endpoint.load, "echo", "wanted") for _ in range(12)]
    assert sorted(load.result().status_code for load in loads) == [200] + [409] * 11
    assert len(inside.pids(endpoint, "wanted")) == 1


def test_failing_loads_of_one_name_at_once_all_hear_why(
    shared: Shared, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = shared
    before = own.processes()
    endpoint.url_of("raises_on_load")
    loads = [threads.submit(endpoint.load, "raises_on_load", "unwanted") for _ in range(6)]
    for load in loads:
        assert "raised while the model was loaded" in assert_error(load.result(), 500)
    assert "unwanted" not in endpoint.names()
    assert eventually(lambda: own.processes() <= before)


def test_loads_and_unloads_of_one_name_that_race_end_in_one_of_two_states(
    shared: Shared, threads: ThreadPoolExecutor
) -> None:
    _, endpoint = shared
    endpoint.url_of("echo")
    for _ in range(5):
        work = [threads.submit(endpoint.load, "echo", "racing") for _ in range(4)]
        work += [threads.submit(endpoint.unload, "racing") for _ in range(4)]
        assert {done.result().status_code for done in work} <= {200, 404, 409, 503}
        there = "racing" in endpoint.names()
        assert endpoint.invoke("racing", b"x").status_code == (200 if there else 404)
        endpoint.unload("racing")


def test_a_model_that_does_not_fit_is_507_with_the_sizes_and_nothing_else_is_touched(
    yard: Yard,
) -> None:
    limit = 1024 * MIB
    own, endpoint = yard(MODELYARD_MEMORY_LIMIT_BYTES=str(limit))
    name = endpoint.loaded("echo")
    weights = own.models_dir / "heavy"
    shutil.copytree(BEHAVIOURS / "echo", weights)
    with (weights / "weights.bin").open("wb") as file:
        file.truncate(2 * limit)  # sparse: takes no space
    before = inside.pids(endpoint, name)
    message = assert_error(endpoint.load_url("heavy", str(weights)), 507)
    assert "needs about" in message and "1024 MiB" in message and "may take" in message
    assert endpoint.names() == {name}
    assert inside.pids(endpoint, name) == before
    assert endpoint.invoke(name, b"x").content == b"x"
    assert Numbers(endpoint)("load_failures_total") == 1


def test_loads_at_once_cannot_promise_the_same_memory_twice(
    yard: Yard, threads: ThreadPoolExecutor
) -> None:
    _, endpoint = yard(
        MODELYARD_MEMORY_LIMIT_BYTES=str(400 * MIB), MODELYARD_EVICTION_POLICY="platform"
    )
    endpoint.unload(endpoint.loaded("allocates_100mb"))  # its size is learned
    loads = [
        threads.submit(endpoint.load, "allocates_100mb", f"big-{number}") for number in range(8)
    ]
    statuses = sorted(load.result().status_code for load in loads)
    assert set(statuses) == {200, 507}
    assert 1 <= statuses.count(200) <= 3
    for name in endpoint.names():
        assert endpoint.invoke(name).status_code == 200
        assert endpoint.unload(name).status_code == 200
    assert endpoint.load("allocates_100mb", "again").status_code == 200


def test_the_memory_of_a_worker_that_is_killed_is_counted_once(shared: Shared) -> None:
    _, endpoint = shared
    name = endpoint.loaded("allocates_100mb")
    before = Numbers(endpoint)("model_bytes", model=name)
    assert before > 90 * MIB
    (killed,) = inside.pids(endpoint, name)
    inside.kill(killed)
    endpoint.invoke(name)
    assert not is_running(killed)
    after = Numbers(endpoint)("model_bytes", model=name)
    assert before - 20 * MIB < after < before + 20 * MIB
