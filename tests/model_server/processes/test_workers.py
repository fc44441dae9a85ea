"""Several processes of one model, queues, and requests whose clients have left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ...contract.endpoint import Endpoint, assert_error, path_of
from ...contract.polling import eventually
from ...contract.processes import is_running
from ...contract.raw import post
from ...contract.server import OwnServer, start, stop_cleanly, wait_until_healthy
from .. import inside
from ..conftest import QUICK
from ..measured import Numbers, measured
from ..told import load

Three = tuple[OwnServer, Endpoint]


@pytest.fixture(scope="module")
def three_server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """Three processes a model, two requests in its queue."""
    models_dir.mkdir(exist_ok=True)
    settings = {
        **QUICK,
        "MODELYARD_MODEL_ROOTS": str(models_dir),
        "MODELYARD_MIN_WORKERS": "3",
        "MODELYARD_QUEUE_SIZE": "2",
    }
    own = start(models_dir, tmp_path_factory.mktemp("logs") / "three.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


@pytest.fixture
def three(three_server: OwnServer, endpoint_of: object) -> Iterator[Three]:
    assert callable(endpoint_of)
    made: Endpoint = endpoint_of(three_server)
    yield three_server, made
    made.unload_all()


class Hold:
    """A request in a model's hands until it is released."""

    def __init__(
        self, endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, flag: Path
    ) -> None:
        self._release = flag.with_suffix(".release")
        self._request = threads.submit(endpoint.invoke, name, _told(touch=flag, wait=self._release))
        assert eventually(flag.exists)

    def release(self) -> httpx.Response:
        """Its answer."""
        self._release.touch()
        return self._request.result()


def _told(**orders: Path) -> bytes:
    return json.dumps(orders, default=str).encode()


def test_requests_run_at_once_in_processes_of_their_own(
    three: Three, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = three
    name = load(endpoint, own, "batches_as_told")
    assert len(inside.pids(endpoint, name)) == 3
    held = [Hold(endpoint, threads, name, tmp_path / f"{n}") for n in range(3)]
    assert [worker["busy"] for worker in inside.workers(endpoint, name)] == [True] * 3
    assert len({each.release().json()["pid"] for each in held}) == 3


def test_one_of_several_processes_is_killed_and_the_others_go_on(
    three: Three, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = three
    name = load(endpoint, own, "batches_as_told")
    held = [Hold(endpoint, threads, name, tmp_path / f"{n}") for n in range(3)]
    before = inside.pids(endpoint, name)
    inside.kill(min(before))
    statuses = sorted(each.release().status_code for each in held)
    assert statuses == [200, 200, 500]
    assert eventually(lambda: len(inside.pids(endpoint, name)) == 3)
    assert len(inside.pids(endpoint, name) & before) == 2
    assert eventually(lambda: endpoint.get(name).json()["state"] == "READY")


def test_all_of_several_processes_are_killed_and_come_back(three: Three) -> None:
    _, endpoint = three
    name = endpoint.loaded("echo")
    before = inside.pids(endpoint, name)
    for pid in before:
        inside.kill(pid)
    assert endpoint.invoke(name, b"x").content == b"x"
    assert eventually(lambda: len(inside.pids(endpoint, name) - before) == 3)
    assert endpoint.get(name).json()["restarts"] == 3


def test_an_unload_ends_all_of_several_processes(three: Three) -> None:
    _, endpoint = three
    name = endpoint.loaded("echo")
    before = inside.pids(endpoint, name)
    assert endpoint.unload(name).status_code == 200
    assert not any(map(is_running, before))


def test_a_load_that_fails_in_several_processes_fails_once_and_leaves_none(three: Three) -> None:
    own, endpoint = three
    endpoint.load("raises_on_load")
    before = own.processes()
    assert_error(endpoint.load("raises_on_load"), 500)
    assert eventually(lambda: own.processes() <= before)


def test_a_full_queue_is_503_with_retry_after_and_loses_nobody_in_it(
    three: Three, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = three
    name = load(endpoint, own, "batches_as_told")
    held = [Hold(endpoint, threads, name, tmp_path / f"{n}") for n in range(3)]
    waiting = [threads.submit(endpoint.invoke, name, b"") for _ in range(2)]
    assert measured(endpoint, lambda now: now("model_queued", model=name) == 2)
    more = [threads.submit(endpoint.invoke, name, b"") for _ in range(6)]
    # The kernel lets one more than the backlog wait.
    assert eventually(lambda: sum(each.done() for each in more) >= 5)
    refused = [each.result() for each in more if each.done()]
    assert [each.release().status_code for each in held] == [200] * 3
    for response in refused:
        assert "MODELYARD_QUEUE_SIZE" in assert_error(response, 503)
        assert int(response.headers["retry-after"]) >= 1
    assert {each.result().status_code for each in waiting} == {200}
    assert endpoint.invoke(name).status_code == 200


def test_requests_whose_clients_left_while_they_waited_are_skipped(
    three: Three, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = three
    name = load(endpoint, own, "batches_as_told")
    held = [Hold(endpoint, threads, name, tmp_path / f"{n}") for n in range(3)]
    computed = tmp_path / "computed"
    with own.connect() as one, own.connect() as other:
        for leaving in (one, other):
            leaving.send(post(path_of(name) + "/invoke", _told(touch=computed)))
        assert measured(endpoint, lambda now: now("model_queued", model=name) == 2)
        assert measured(endpoint, lambda now: now("http_in_flight") == 5)
    # Gateways tell of it a moment later, so by now they know that both have left.
    assert measured(endpoint, lambda now: now("http_in_flight") == 3)
    assert [each.release().status_code for each in held] == [200] * 3
    assert measured(endpoint, lambda now: now("invokes_skipped_total", model=name) == 2)
    assert Numbers(endpoint)("invokes_total", model=name) == 3
    assert not computed.exists()


def test_a_client_that_leaves_during_its_request_does_not_cost_the_process(
    three: Three, tmp_path: Path
) -> None:
    own, endpoint = three
    name = endpoint.loaded("sleeps")
    before, flag = inside.pids(endpoint, name), tmp_path / "begun"
    with own.connect() as leaving:
        leaving.send(post(path_of(name) + "/invoke", f"0.2 {flag}".encode()))
        assert eventually(flag.exists)
    assert measured(endpoint, lambda now: now("invokes_total", model=name) == 1)
    assert inside.pids(endpoint, name) == before


def test_many_models_at_once_load_and_unload(three: Three, threads: ThreadPoolExecutor) -> None:
    _, endpoint = three
    endpoint.url_of("echo")
    names = [f"many-{number}" for number in range(12)]
    loads = [threads.submit(endpoint.load, "echo", name) for name in names]
    assert [load.result().status_code for load in loads] == [200] * 12
    pids = [pid for name in names for pid in inside.pids(endpoint, name)]
    assert len(set(pids)) == 36
    unloads = [threads.submit(endpoint.unload, name) for name in names]
    assert [unload.result().status_code for unload in unloads] == [200] * 12
    assert not any(map(is_running, pids))
