"""A server in a control group with a real limit: models outgrow it, the server and others do not
suffer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ..contract.endpoint import Endpoint, assert_error
from ..contract.polling import eventually
from ..contract.server import OwnServer, Server, start, stop_cleanly, wait_until_healthy
from . import inside
from .cgroup import Group, limited_group
from .conftest import QUICK
from .told import load, make
from .traffic import Traffic

pytestmark = pytest.mark.slow

MIB = 1 << 20
LIMIT_BYTES = 400 * MIB

Limited = tuple[OwnServer, Endpoint, Group]


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with limited_group(LIMIT_BYTES) as made:
        yield made


@pytest.fixture(scope="module")
def limited_server(
    group: Group, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    models_dir.mkdir(exist_ok=True)
    logs = tmp_path_factory.mktemp("logs")
    settings = {
        **QUICK,
        "MODELYARD_MODEL_ROOTS": str(models_dir),
        "MODELYARD_GATEWAYS": "1",
        "MODELYARD_LEARNED_SIZES_FILE": "",
    }
    with group.entered():
        own = start(models_dir, logs / "limited.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


@pytest.fixture
def limited(
    limited_server: OwnServer, group: Group, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[Limited]:
    """The server; afterwards none of its own processes may have been replaced."""
    endpoint = endpoint_of(limited_server)
    before = _servers_own(limited_server)
    yield limited_server, endpoint, group
    endpoint.unload_all()
    assert _servers_own(limited_server) == before, limited_server.log_tail()


def _servers_own(own: OwnServer) -> set[int]:
    return {own.process.pid, inside.master(own), *inside.gateways(own), *inside.zygotes(own)}


def test_a_leak_of_10_mib_a_request_costs_its_model_alone(limited: Limited) -> None:
    own, endpoint, _ = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    leaks = load(endpoint, own, "leaks_10mib")
    with Traffic(own, steady, clients=2) as traffic:
        answers = [endpoint.invoke(leaks) for _ in range(80)]
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(507) <= 5 and statuses.count(200) + statuses.count(507) == 80
    assert all("the model's process" in a.text for a in answers if a.status_code == 507)
    assert _departures(endpoint, leaks) >= 1


def test_a_leak_is_stopped_before_the_kernel_acts(limited: Limited) -> None:
    own, endpoint, group = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    leaks = load(endpoint, own, "leaks_10mib")
    kills = group.oom_kills
    with Traffic(own, steady, clients=2) as traffic:
        for _ in range(60):
            departures = _departures(endpoint, leaks)
            answer = endpoint.invoke(leaks)
            assert answer.status_code == 200 or "the model's process grew" in answer.text
            kept_mib = int(answer.text) if answer.status_code == 200 else 0
            # On a slow machine it would leak on before the server looks, and the kernel be first.
            assert eventually(partial(_has_seen, endpoint, leaks, departures, kept_mib))
            traffic.wait_for_more(60)
    assert traffic.failed == 0, traffic.messages
    assert _departures(endpoint, leaks) >= 1
    assert group.oom_kills == kills


def _departures(endpoint: Endpoint, name: str) -> int:
    """How often the model's process has been replaced, or has left because nothing was in hand."""
    told = endpoint.send("GET", "/memory").json()["models"]
    (evictions,) = [model["evictions"] for model in told if model["modelName"] == name]
    return int(evictions) + int(endpoint.get(name).json()["restarts"])


def _has_seen(endpoint: Endpoint, name: str, departures: int, kept_mib: int) -> bool:
    """Whether the server knows of what the process keeps, but for what is too little to be told;
    or has done away with it, as it has with one that keeps nothing."""
    held: int = endpoint.get(name).json()["privateBytes"]
    return _departures(endpoint, name) > departures or 0 < kept_mib * MIB * 0.9 <= held


def test_a_model_that_doubles_after_its_load_is_507_with_the_sizes(limited: Limited) -> None:
    own, endpoint, _ = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    doubles = load(endpoint, own, "doubles_after_load", MIB=220)
    with Traffic(own, steady, clients=2) as traffic:
        message = assert_error(endpoint.invoke(doubles), 507)
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages
    assert "memory" in message
    assert eventually(lambda: endpoint.get(doubles).json()["state"] == "READY")


def test_10_gib_allocated_in_c_are_507_and_the_process_goes_on(limited: Limited) -> None:
    own, endpoint, group = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    grows = load(endpoint, own, "grows_as_told")
    before, kills = inside.pids(endpoint, grows), group.oom_kills
    with Traffic(own, steady, clients=2) as traffic:
        message = assert_error(endpoint.invoke(grows, b"numpy 10000"), 507)
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages
    assert "Unable to allocate" in message and "max_memory_bytes" in message
    assert inside.pids(endpoint, grows) == before
    assert group.oom_kills == kills


@pytest.mark.parametrize("way", ["numpy", "bytes", "objects", "shared"])
def test_a_load_that_is_larger_than_the_limit_is_507(limited: Limited, way: str) -> None:
    own, endpoint, _ = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    made = make(own.models_dir, "grows_as_told", LOAD=f"{way} 600")
    with Traffic(own, steady, clients=2) as traffic:
        assert_error(endpoint.load_url(made.name, str(made)), 507)
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages


@pytest.mark.parametrize("way", ["numpy", "bytes", "objects", "shared"])
def test_growth_up_to_the_kernels_limit_is_507_and_the_model_comes_back(
    limited: Limited, way: str
) -> None:
    own, endpoint, _ = limited
    steady = load(endpoint, own, "echo", "pinned = true")
    grows = load(endpoint, own, "grows_as_told")
    with Traffic(own, steady, clients=2) as traffic:
        assert_error(endpoint.invoke(grows, f"{way} 390".encode()), 507)
        traffic.wait_for_more(20)
    assert traffic.failed == 0, traffic.messages
    assert endpoint.invoke(grows, b"bytes 1").text == "taken"


def test_what_the_kernel_kills_for_lack_of_memory_is_507_and_says_so(limited: Limited) -> None:
    own, endpoint, group = limited
    grows = load(endpoint, own, "grows_as_told")
    (pid,) = inside.pids(endpoint, grows)
    kills = group.oom_kills
    (group.directory / "memory.limit_in_bytes").write_text(str(group.held_bytes + 30 * MIB))
    try:
        message = assert_error(endpoint.invoke(grows, b"numpy 250"), 507)
    finally:
        (group.directory / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    assert group.oom_kills == kills + 1
    assert "the kernel killed the model's process while it handled the request" in message
    assert eventually(lambda: pid not in inside.pids(endpoint, grows))


def test_a_child_process_of_a_model_is_killed_before_anything_of_the_server(
    limited: Limited,
) -> None:
    own, endpoint, _ = limited
    grows = load(endpoint, own, "grows_as_told")
    before = inside.pids(endpoint, grows)
    assert endpoint.invoke(grows, b"child 450").status_code in (500, 507)
    assert endpoint.invoke(grows, b"bytes 1").text == "taken"
    assert before  # whichever was killed


def test_models_are_the_kernels_first_victims_with_all_that_they_start(limited: Limited) -> None:
    own, endpoint, _ = limited
    name = load(endpoint, own, "forks")
    (worker,) = inside.pids(endpoint, name)
    servers = [own.process.pid, inside.master(own), *inside.gateways(own)]
    assert {_score(pid) for pid in servers} == {_score(os.getpid())}
    assert {_score(pid) for pid in (worker, *inside.zygotes(own))} == {500}


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
