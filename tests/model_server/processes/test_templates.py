"""Workers forked from a loaded model: what they share, what they do not, what deaths cost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model_server import probe

from ...contract.endpoint import Endpoint
from ...contract.polling import eventually
from ...contract.processes import is_running
from ...contract.server import OwnServer, Server
from .. import inside
from ..conftest import QUICK, Yard
from ..told import load, make, running
from ..traffic import Traffic

MIB = 1 << 20
BEHAVIOUR = "counts_loads"
Yarded = tuple[OwnServer, Endpoint]


def fresh(endpoint: Endpoint, name: str, count: int, gone: set[int]) -> bool:
    """Whether the model comes to have so many processes, none of those that are gone."""
    return eventually(lambda: len(inside.pids(endpoint, name) - gone) == count)


@pytest.fixture(scope="module")
def template_server(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "templates.log"
    with running(models_dir, log, {**QUICK, "MODELYARD_GATEWAYS": "1"}) as own:
        yield own


@pytest.fixture
def here(
    template_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(template_server)
    yield template_server, made
    made.unload_all()


@pytest.fixture
def loads(tmp_path: Path) -> Path:
    """The file with a line for each time that the model was loaded."""
    return tmp_path / "loads"


def lines(path: Path) -> list[int]:
    """Which processes have loaded the model."""
    return [int(line) for line in path.read_text().split()]


def template(endpoint: Endpoint, name: str) -> int:
    """The pid of the model's template; 0 while it has none."""
    return endpoint.get(name).json()["templatePid"] or 0


def answers_of_all(
    endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, count: int, directory: Path
) -> list[dict[str, Any]]:
    """One answer of each of so many workers: each is held until all have begun."""
    release = directory / "release-all"
    begun = [directory / f"begun-{number}" for number in range(count)]
    orders = [{"touch": str(flag), "wait": str(release)} for flag in begun]
    requests = [threads.submit(endpoint.invoke, name, json.dumps(one).encode()) for one in orders]
    assert eventually(lambda: all(flag.exists() for flag in begun))
    release.touch()
    return [request.result().json() for request in requests]


def test_two_workers_are_forked_from_a_model_that_was_loaded_once(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path, loads: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2", LOADS=loads, KEPT="kept")
    loaded_by = template(endpoint, name)
    assert lines(loads) == [loaded_by]
    found = answers_of_all(endpoint, threads, name, 2, tmp_path)
    assert {one["pid"] for one in found} == inside.pids(endpoint, name)
    assert [one["parent"] for one in found] == [loaded_by] * 2
    assert [one["kept"] for one in found] == ["kept"] * 2
    assert len({one["drawn"] for one in found}) == 2


def test_workers_share_the_memory_of_the_model(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path, loads: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 3", LOADS=loads, HOLDS_MB=50)
    found = answers_of_all(endpoint, threads, name, 3, tmp_path)
    assert [one["held"] for one in found] == [50 * MIB] * 3
    for pid in inside.pids(endpoint, name):
        assert probe.private_bytes(pid) < 10 * MIB
    assert endpoint.get(name).json()["privateBytes"] < 90 * MIB


def test_a_model_may_refuse_to_share(here: Yarded, loads: Path) -> None:
    own, endpoint = here
    settings = "min_workers = 2\nshare_weights = false"
    name = load(endpoint, own, BEHAVIOUR, settings, LOADS=loads, HOLDS_MB=20)
    assert template(endpoint, name) == 0
    assert set(lines(loads)) == inside.pids(endpoint, name)
    assert endpoint.get(name).json()["privateBytes"] > 40 * MIB


def test_one_worker_needs_no_template(here: Yarded, loads: Path) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, LOADS=loads)
    assert template(endpoint, name) == 0
    assert set(lines(loads)) == inside.pids(endpoint, name)


def test_a_killed_worker_comes_back_without_another_load(here: Yarded, loads: Path) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2", LOADS=loads)
    for _ in range(3):
        before = inside.pids(endpoint, name)
        inside.kill(min(before))
        assert fresh(endpoint, name, 2, {min(before)})
    assert len(lines(loads)) == 1
    assert eventually(lambda: endpoint.get(name).json()["restarts"] == 3)


def test_a_killed_template_disturbs_nobody_and_is_made_anew_when_it_is_needed(
    here: Yarded, loads: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2", LOADS=loads)
    first, before = template(endpoint, name), inside.pids(endpoint, name)
    with Traffic(own, name, body=b"") as traffic:
        inside.kill(first)
        traffic.wait_for_more(50)
    assert traffic.failed == 0, traffic.messages
    assert template(endpoint, name) == 0
    assert inside.pids(endpoint, name) == before
    inside.kill(min(before))
    # Until it has loaded, the new template is one of the model's processes.
    assert eventually(lambda: template(endpoint, name) not in (0, first))
    assert fresh(endpoint, name, 2, {min(before)})
    assert len(lines(loads)) == 2


def test_all_processes_killed_at_once_come_back(here: Yarded, loads: Path) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 3", LOADS=loads)
    for _ in range(3):
        before = {template(endpoint, name), *inside.pids(endpoint, name)}
        for pid in before:
            inside.kill(pid)
        assert endpoint.invoke(name).status_code == 200
        assert fresh(endpoint, name, 3, before)
    assert endpoint.unload(name).status_code == 200


@pytest.mark.parametrize("behaviour", ["starts_threads", "loads_async", "keeps_event_loop"])
def test_a_model_that_cannot_be_forked_is_loaded_by_each_worker(
    here: Yarded, threads: ThreadPoolExecutor, behaviour: str
) -> None:
    own, endpoint = here
    name = load(endpoint, own, behaviour, "min_workers = 3")
    assert template(endpoint, name) == 0
    before = inside.pids(endpoint, name)
    assert len(before) == 3
    requests = [threads.submit(endpoint.invoke, name) for _ in range(30)]
    assert [each.result().status_code for each in requests] == [200] * 30
    if behaviour != "starts_threads":
        found = [each.result().json() for each in requests]
        assert all(one["pid"] == one["loaded_by"] for one in found)
    inside.kill(min(before))
    assert fresh(endpoint, name, 3, {min(before)})
    assert template(endpoint, name) == 0


def test_a_model_that_keeps_a_connection_is_loaded_by_each_worker(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    name = load(endpoint, own, "keeps_socket", "min_workers = 3")
    requests = [threads.submit(endpoint.invoke, name) for _ in range(30)]
    found = [each.result().json() for each in requests]
    assert all(one["pid"] == one["loaded_by"] for one in found)


NPZ = """
import json, os, numpy
def model_fn(model_dir): return numpy.load(os.path.join(model_dir, "w.npz"))
def transform_fn(m, body, c, a):
    name = body.decode()
    return json.dumps(float(m[name].sum()))
"""

SQLITE = """
import json, os, sqlite3
def model_fn(model_dir): return sqlite3.connect(os.path.join(model_dir, "w.db"))
def transform_fn(m, body, c, a):
    found = m.execute("SELECT sum(length(value)) FROM w WHERE name = ?", [body.decode()])
    return json.dumps(found.fetchone()[0])
"""

CHILD = """
import os, signal
def model_fn(model_dir):
    child = os.fork()
    if not child:
        signal.pause()
    return child
def transform_fn(m, body, c, a): return str(m)
"""

MAPPED = """
import json, os, joblib, torch
from safetensors import safe_open
def model_fn(model_dir):
    there = lambda name: os.path.join(model_dir, name)
    weights = safe_open(there("w.safetensors"), "pt")
    return (
        joblib.load(there("w.joblib"), mmap_mode="r"),
        torch.load(there("w.pt"), mmap=True),
        weights.get_tensor("w"),
        weights,
    )
def transform_fn(m, body, c, a): return json.dumps([float(one.sum()) for one in m[:3]])
"""

NAMES = [f"layer-{number}" for number in range(4)]
VALUES = 200_000


def add(own: OwnServer, name: str, code: str) -> Path:
    """A model with this code, which wants three workers."""
    made = own.models_dir / name
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text(code)
    (made / "modelyard.toml").write_text("min_workers = 3\n")
    return made


def sums(
    endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, made: Path
) -> list[tuple[str, Any]]:
    """What it answers, asked for all layers again and again."""
    assert endpoint.load_url(name, str(made)).status_code == 200
    asked = NAMES * 25
    requests = [threads.submit(endpoint.invoke, name, each.encode()) for each in asked]
    return [(each, one.result().json()) for each, one in zip(asked, requests, strict=True)]


def test_weights_read_from_an_open_file_are_right_in_each_of_several_workers(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    made = add(own, "lazy-npz", NPZ)
    np.savez(made / "w.npz", **{n: np.full(VALUES, i) for i, n in enumerate(NAMES)})  # type: ignore[arg-type]
    found = sums(endpoint, threads, "lazy-npz", made)
    assert all(total == NAMES.index(each) * VALUES for each, total in found)
    assert template(endpoint, "lazy-npz") == 0
    assert "w.npz" in why(own, "lazy-npz")


def test_a_database_is_opened_by_each_of_several_workers(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    made = add(own, "database", SQLITE)
    with closing(sqlite3.connect(made / "w.db")) as database, database:
        database.execute("CREATE TABLE w (name TEXT, value BLOB)")
        rows = [(n, bytes(VALUES * i)) for i, n in enumerate(NAMES, 1)]
        database.executemany("INSERT INTO w VALUES (?, ?)", rows)
    found = sums(endpoint, threads, "database", made)
    assert all(total == (NAMES.index(each) + 1) * VALUES for each, total in found)
    assert template(endpoint, "database") == 0
    assert "w.db" in why(own, "database")


def test_a_model_that_has_forked_a_process_is_loaded_by_each_worker(here: Yarded) -> None:
    own, endpoint = here
    made = add(own, "forks", CHILD)
    assert endpoint.load_url("forks", str(made)).status_code == 200
    assert template(endpoint, "forks") == 0
    assert "it has started processes" in why(own, "forks")
    assert endpoint.invoke("forks").status_code == 200


def test_mapped_weights_are_shared(here: Yarded, threads: ThreadPoolExecutor) -> None:
    own, endpoint = here
    made = add(own, "mapped", MAPPED)
    joblib.dump(np.full(VALUES, 1.0), made / "w.joblib")
    torch.save(torch.full((VALUES,), 2.0), made / "w.pt")
    save_file({"w": torch.full((VALUES,), 3.0)}, made / "w.safetensors")
    found = sums(endpoint, threads, "mapped", made)
    assert all(one == [VALUES, 2 * VALUES, 3 * VALUES] for _, one in found)
    assert template(endpoint, "mapped") != 0, why(own, "mapped")


def why(own: OwnServer, name: str) -> str:
    """What the log says of a model that is not shared."""
    lines = own.log.read_text().splitlines()
    return "".join(line for line in lines if "loads the model for itself" in line and name in line)


def test_an_unload_ends_the_template_too(here: Yarded, loads: Path) -> None:
    own, endpoint = here
    for _ in range(3):
        name = load(endpoint, own, BEHAVIOUR, "min_workers = 3", LOADS=loads)
        every = {template(endpoint, name), *inside.pids(endpoint, name)}
        assert len(every) == 4
        assert endpoint.unload(name).status_code == 200
        assert not any(map(is_running, every))


@pytest.mark.parametrize("victims", ["template", "workers", "all"])
def test_an_unload_right_after_a_death_ends_all(here: Yarded, loads: Path, victims: str) -> None:
    own, endpoint = here
    before = own.processes()
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2", LOADS=loads)
    first, workers = template(endpoint, name), inside.pids(endpoint, name)
    for pid in {"template": {first}, "workers": workers, "all": {first, *workers}}[victims]:
        inside.kill(pid)
    assert endpoint.unload(name).status_code == 200
    assert not any(map(is_running, {first, *workers}))
    assert eventually(lambda: own.processes() <= before)


def test_a_load_that_fails_leaves_no_template(here: Yarded) -> None:
    own, endpoint = here
    made = own.models_dir / "fails-in-template"
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text("def model_fn(d): raise ValueError('no model')\n")
    (made / "modelyard.toml").write_text("min_workers = 3\n")
    before = own.processes()
    response = endpoint.load_url("fails-in-template", str(made))
    assert response.status_code == 500 and "no model" in response.text
    assert eventually(lambda: own.processes() <= before)


def test_numpy_and_torch_draw_different_numbers_in_each_worker(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    made = own.models_dir / "draws"
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text(
        "import json, os, numpy, torch\n"
        "def model_fn(d): return numpy.random.rand(), float(torch.rand(1))\n"
        "def transform_fn(m, body, c, a):\n"
        "    return json.dumps([os.getpid(), numpy.random.rand(), float(torch.rand(1))])\n"
    )
    (made / "modelyard.toml").write_text("min_workers = 3\n")
    assert endpoint.load_url("draws", str(made)).status_code == 200
    first: dict[int, list[float]] = {}

    def all_have_answered() -> bool:
        requests = [threads.submit(endpoint.invoke, "draws") for _ in range(9)]
        for pid, *drawn in (each.result().json() for each in requests):
            first.setdefault(pid, drawn)
        return len(first) == 3

    assert eventually(all_have_answered)
    for position in (0, 1):
        assert len({drawn[position] for drawn in first.values()}) == 3


def test_deaths_of_any_process_under_load_cost_only_what_was_in_hand(
    here: Yarded, loads: Path
) -> None:
    own, endpoint = here
    before = own.processes()
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2\nmax_workers = 4", LOADS=loads)
    kills = 12
    with Traffic(own, name, body=b"") as traffic:
        for number in range(kills):
            every = sorted({template(endpoint, name), *inside.pids(endpoint, name)} - {0})
            inside.kill(every[number % len(every)])
            traffic.wait_for_more(10)
    assert traffic.outcomes.keys() <= {200, 500}, traffic.messages
    assert traffic.failed <= kills
    assert eventually(lambda: len(inside.pids(endpoint, name)) >= 2)
    assert endpoint.unload(name).status_code == 200
    assert eventually(lambda: own.processes() <= before)


def test_loads_and_unloads_that_race_leave_no_process(
    here: Yarded, threads: ThreadPoolExecutor, loads: Path
) -> None:
    own, endpoint = here
    made = make(own.models_dir, BEHAVIOUR, "min_workers = 3", LOADS=loads)
    before = own.processes()
    for _ in range(6):
        work = [threads.submit(endpoint.load_url, "raced", str(made)) for _ in range(3)]
        work += [threads.submit(endpoint.unload, "raced") for _ in range(3)]
        assert {each.result().status_code for each in work} <= {200, 404, 409, 503}
    endpoint.unload("raced")
    assert eventually(lambda: own.processes() <= before), own.processes() - before


def test_a_template_forks_on_when_the_zygote_that_it_came_from_is_dead(
    here: Yarded, loads: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 2", LOADS=loads)
    first = template(endpoint, name)
    for pid in inside.zygotes(own):
        inside.kill(pid)
    before = inside.pids(endpoint, name)
    inside.kill(min(before))
    assert fresh(endpoint, name, 2, {min(before)})
    assert template(endpoint, name) == first
    assert len(lines(loads)) == 1
    assert endpoint.unload(name).status_code == 200
    assert not is_running(first)


def test_a_forked_worker_over_the_time_limit_is_forked_anew(
    here: Yarded, tmp_path: Path, loads: Path
) -> None:
    own, endpoint = here
    settings = "min_workers = 2\nrequest_timeout_seconds = 0.5"
    name = load(endpoint, own, BEHAVIOUR, settings, LOADS=loads)
    before = inside.pids(endpoint, name)
    order = json.dumps({"wait": str(tmp_path / "never")}).encode()
    assert endpoint.invoke(name, order).status_code == 504
    assert eventually(lambda: len(inside.pids(endpoint, name) - before) == 1)
    assert eventually(lambda: len(inside.pids(endpoint, name)) == 2)
    assert len(lines(loads)) == 1


def test_a_killed_server_leaves_no_template_and_none_of_its_workers(
    yard: Yard, loads: Path
) -> None:
    own, endpoint = yard()
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 3", LOADS=loads)
    every = {template(endpoint, name), *inside.pids(endpoint, name)}
    own.process.kill()
    own.process.wait()
    assert eventually(lambda: not any(map(is_running, every)) and not own.processes())


def test_a_server_that_stops_waits_for_forked_workers_only_as_long_as_they_have_requests(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path, loads: Path
) -> None:
    own, endpoint = yard()
    name = load(endpoint, own, BEHAVIOUR, "min_workers = 3", LOADS=loads)
    begun, release = tmp_path / "begun", tmp_path / "release"
    order = json.dumps({"touch": str(begun), "wait": str(release)}).encode()
    request = threads.submit(endpoint.invoke, name, order)
    assert eventually(begun.exists)
    stopped = threads.submit(own.stop)
    assert eventually(lambda: own.ping_status() == 0)
    release.touch()
    assert request.result().status_code == 200
    assert stopped.result() == 0
    assert eventually(lambda: not own.processes())
