"""Models that left for others: still listed, back when they are asked for, and no request lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_server.backoff import RETRY_FAILED_AFTER_SECONDS
from model_server.gateway.invocation import LOADING_WAIT_TIME

from ..contract.endpoint import Endpoint, assert_error
from ..contract.polling import eventually
from ..contract.processes import is_running
from ..contract.server import OwnServer, Server
from . import inside
from .conftest import Yard
from .measured import Numbers, measured
from .packages import make_wheel
from .tight import Tight, fitting, names, tight_yard
from .told import running
from .traffic import Traffic


@pytest.fixture(scope="module")
def server_for_two(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "tight.log"
    with running(models_dir, log, fitting(2)) as own:
        yield own


@pytest.fixture
def two(
    server_for_two: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],
    tmp_path: Path,
    threads: ThreadPoolExecutor,
) -> Iterator[Tight]:
    """A server where two models fit, and which evicts the one that was unused for longest."""
    made = Tight(server_for_two, endpoint_of(server_for_two), tmp_path, threads)
    yield made
    made.clear()


def evicted(two: Tight, settings: str = "", **told: object) -> str:
    """A model that has left for others, one of which cannot leave."""
    name = two.load(settings, **told)
    two.load("pinned = true")
    two.load()
    assert two.state(name) == "EVICTED"
    return name


# --- what an evicted model is ---------------------------------------------------------------------


def test_an_evicted_model_is_listed_and_holds_nothing_until_it_is_asked_for(two: Tight) -> None:
    first = two.load()
    (process,) = inside.pids(two.endpoint, first)
    second, third = two.load("pinned = true"), two.load()
    assert two.endpoint.names() == {first, second, third}
    told = two.endpoint.get(first).json()
    assert (told["state"], told["workers"], told["privateBytes"]) == ("EVICTED", [], 0)
    assert not is_running(process)
    answer = two.endpoint.invoke(first)
    assert answer.status_code == 200
    assert inside.pids(two.endpoint, first) == {answer.json()["pid"]}
    assert two.loads(first) == 2
    assert [two.state(name) for name in (first, second, third)] == ["READY", "READY", "EVICTED"]
    assert two.known(first)["evictions"] == 1


def test_the_answer_tells_how_long_a_request_waited_for_a_return(two: Tight) -> None:
    name = evicted(two)
    answers = [two.endpoint.invoke(name) for _ in range(2)]
    assert int(answers[0].headers[LOADING_WAIT_TIME]) > 0
    assert LOADING_WAIT_TIME not in answers[1].headers


def test_the_name_of_an_evicted_model_is_taken(two: Tight) -> None:
    name = evicted(two)
    url = two.endpoint.get(name).json()["modelUrl"]
    assert_error(two.endpoint.load_url(name, url), 409)
    assert two.state(name) == "EVICTED"


def test_an_evicted_model_can_be_unloaded_and_loaded_again(two: Tight) -> None:
    name = evicted(two)
    url = two.endpoint.get(name).json()["modelUrl"]
    assert two.endpoint.unload(name).status_code == 200
    assert name not in two.endpoint.names()
    assert_error(two.endpoint.invoke(name), 404)
    assert two.endpoint.load_url(name, url).status_code == 200
    assert two.endpoint.invoke(name).status_code == 200


def test_all_who_wait_for_a_return_join_one_load(two: Tight) -> None:
    go_on = two.directory / "go on"
    go_on.touch()
    name = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    answers = [two.begin(name) for _ in range(8)]
    assert eventually(lambda: two.loads(name) == 2)
    assert two.state(name) == "LOADING"
    go_on.touch()
    assert {answer.result().status_code for answer in answers} == {200}
    assert two.loads(name) == 2


def test_a_model_with_a_template_leaves_and_comes_back_as_a_whole(two: Tight) -> None:
    name = two.load("max_workers = 2")
    two.load("pinned = true")
    before = two.endpoint.get(name).json()
    processes = {before["templatePid"], *(worker["pid"] for worker in before["workers"])}
    assert len(processes) == 2
    two.load()
    told = two.endpoint.get(name).json()
    assert (told["state"], told["templatePid"], told["workers"]) == ("EVICTED", None, [])
    assert not any(map(is_running, processes))
    assert two.endpoint.invoke(name).status_code == 200
    after = two.endpoint.get(name).json()
    assert after["templatePid"] not in {None, before["templatePid"]}
    assert two.loads(name) == 2


# --- while it leaves ------------------------------------------------------------------------------


def test_a_model_can_be_unloaded_while_it_is_being_evicted(two: Tight) -> None:
    name = two.load()
    two.load("pinned = true")
    with two.held_up(name) as process:
        _, load = two.begin_load()
        assert two.becomes(name, "EVICTING")
        assert two.ledger()["leavingBytes"] > 0
        unload = two.threads.submit(two.endpoint.unload, name)
        assert eventually(lambda: two.endpoint.get(name).status_code == 404)
    assert (unload.result().status_code, load.result().status_code) == (200, 200)
    assert name not in two.endpoint.names()
    assert not is_running(process)
    assert two.ledger()["leavingBytes"] == 0


def test_a_load_begins_only_when_those_who_leave_for_it_are_gone(two: Tight) -> None:
    name = two.load()
    two.load("pinned = true")
    with two.held_up(name):
        new, load = two.begin_load()
        assert two.becomes(name, "EVICTING")
        assert inside.workers(two.endpoint, new) == [] and not load.done()
    assert load.result().status_code == 200
    assert (two.state(name), two.loads(new)) == ("EVICTED", 1)


def test_a_request_for_a_model_that_is_being_evicted_is_answered(two: Tight) -> None:
    name = two.load()
    two.load("pinned = true")
    with two.held_up(name):
        _, load = two.begin_load()
        assert two.becomes(name, "EVICTING")
        answer = two.begin(name)
        assert_error(two.endpoint.load_url("nowhere", "/nowhere"), 400)  # others are answered
    assert load.result().status_code == 200
    assert answer.result().status_code == 200
    assert two.loads(name) == 2


def test_a_request_that_was_queued_before_the_eviction_is_answered_before_it(two: Tight) -> None:
    name = two.load()
    two.load("pinned = true")
    with two.held_up(name):
        answers = [two.begin(name) for _ in range(3)]
        two.wait_for_queue(name, 3)
        _, load = two.begin_load()
        assert two.becomes(name, "EVICTING")
    assert {answer.result().status_code for answer in answers} == {200}
    assert load.result().status_code == 200
    assert two.state(name) == "EVICTED"
    assert two.loads(name) == 1


def test_a_request_that_was_queued_survives_when_the_process_is_killed_on_its_way_out(
    two: Tight,
) -> None:
    name = two.load()
    two.load("pinned = true")
    with two.held_up(name) as process:
        answer = two.begin(name)
        two.wait_for_queue(name, 1)
        _, load = two.begin_load()
        assert two.becomes(name, "EVICTING")
        inside.kill(process)
    assert load.result().status_code == 200
    assert answer.result().status_code == 200
    assert two.loads(name) == 2
    assert two.endpoint.get(name).json()["restarts"] == 0


def test_requests_to_more_models_than_fit_are_all_answered(two: Tight) -> None:
    models = [two.load() for _ in range(4)]
    with ExitStack() as stack:
        traffic = [stack.enter_context(Traffic(two.own, name, clients=2)) for name in models]
        for each in traffic:
            each.wait_for_more(20)
    assert [each.failed for each in traffic] == [0] * 4, [each.messages for each in traffic]
    assert sum(two.known(name)["evictions"] for name in models) >= 4


# --- returns that fail ----------------------------------------------------------------------------


def test_a_model_whose_files_are_gone_fails_and_no_other_does(two: Tight) -> None:
    name = evicted(two)
    others = two.endpoint.names() - {name}
    shutil.rmtree(two.endpoint.get(name).json()["modelUrl"])
    for answer in [two.begin(name) for _ in range(4)]:
        message = assert_error(answer.result(), 503)
        assert "cannot be brought back" in message and name in message
    assert two.state(name) == "FAILED"
    again = two.endpoint.invoke(name)
    assert "cannot be brought back" in assert_error(again, 503)
    assert 1 <= int(again.headers["retry-after"]) <= RETRY_FAILED_AFTER_SECONDS
    assert {two.endpoint.invoke(other).status_code for other in others} == {200}
    assert two.ledger()["leavingBytes"] == 0
    assert two.endpoint.unload(name).status_code == 200


@pytest.mark.slow
def test_a_model_whose_files_are_back_comes_back_after_a_pause(two: Tight) -> None:
    name = evicted(two)
    url = Path(two.endpoint.get(name).json()["modelUrl"])
    aside = url.rename(url.with_name("aside"))
    assert_error(two.endpoint.invoke(name), 503)
    aside.rename(url)
    assert_error(two.endpoint.invoke(name), 503)  # not yet
    assert eventually(
        lambda: two.endpoint.invoke(name).status_code == 200,
        within_seconds=RETRY_FAILED_AFTER_SECONDS + 40,
    )
    assert two.state(name) == "READY"


def test_a_return_that_pinned_models_leave_no_room_for_is_507_and_may_be_tried_again(
    two: Tight,
) -> None:
    name = two.load()
    pins = [two.load("pinned = true") for _ in range(2)]
    assert two.state(name) == "EVICTED"
    for answer in [two.begin(name) for _ in range(3)]:
        message = assert_error(answer.result(), 507)
        assert "2 pinned models hold" in message and "MiB" in message
    assert two.state(name) == "EVICTED"
    two.endpoint.unload(pins[0])
    assert two.endpoint.invoke(name).status_code == 200


def test_an_unload_during_a_return_ends_both(two: Tight) -> None:
    go_on = two.directory / "go on"
    go_on.touch()
    name = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    answers = [two.begin(name) for _ in range(3)]
    assert eventually(lambda: two.loads(name) == 2)
    before = two.own.processes()
    assert two.endpoint.unload(name).status_code == 200
    for answer in answers:
        assert answer.result().status_code in (404, 503)
    assert eventually(lambda: len(two.own.processes()) < len(before))
    assert_error(two.endpoint.get(name), 404)
    held = sum(sum(model["heldBytes"].values()) for model in two.memory()["models"]
               if model["state"] == "READY")  # fmt: skip
    assert two.ledger()["heldBytes"] == held


def test_a_process_that_is_killed_while_it_returns_is_started_once_more(two: Tight) -> None:
    go_on = two.directory / "go on"
    go_on.touch()
    name = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    answer = two.begin(name)
    assert eventually(lambda: two.loads(name) == 2)
    inside.kill(*inside.pids(two.endpoint, name))
    assert eventually(lambda: two.loads(name) == 3)
    go_on.touch()
    assert answer.result().status_code == 200


def test_a_model_that_is_killed_again_while_it_returns_has_failed_for_a_while(two: Tight) -> None:
    go_on = two.directory / "go on"
    go_on.touch()
    name = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    answer = two.begin(name)
    assert eventually(lambda: two.loads(name) == 2)
    inside.kill(*inside.pids(two.endpoint, name))
    assert eventually(lambda: two.loads(name) == 3)
    inside.kill(*inside.pids(two.endpoint, name))
    assert "killed by signal 9" in assert_error(answer.result(), 503)
    assert two.state(name) == "FAILED"
    go_on.touch()
    assert two.endpoint.unload(name).status_code == 200


# --- usage ----------------------------------------------------------------------------------------


def test_each_use_is_counted_once_also_that_which_waited_for_a_return(two: Tight) -> None:
    name = two.load()
    for _ in range(3):
        two.endpoint.invoke(name)
    assert eventually(lambda: two.known(name)["uses"] == 3)
    two.load("pinned = true")
    two.load()
    assert two.state(name) == "EVICTED"
    assert two.known(name)["uses"] == 3  # they survive the eviction
    assert {two.begin(name).result().status_code for _ in range(2)} == {200}
    assert eventually(lambda: two.known(name)["uses"] == 5)
    url = two.endpoint.get(name).json()["modelUrl"]
    two.endpoint.unload(name)
    two.endpoint.load_url(name, url)
    assert two.known(name)["uses"] == 5  # and an unload and a load


def test_a_request_that_was_refused_does_not_hide_the_uses_after_it(two: Tight) -> None:
    name = two.load()
    pins = [two.load("pinned = true") for _ in range(2)]
    assert_error(two.endpoint.invoke(name), 507)
    two.endpoint.unload(pins[0])
    before = two.known(name)["uses"]
    for _ in range(3):
        assert two.endpoint.invoke(name).status_code == 200
    assert eventually(lambda: two.known(name)["uses"] == before + 3)


def test_evictions_and_returns_are_counted(two: Tight) -> None:
    before = Numbers(two.endpoint)
    labels = {"policy": "lru", "move": "evict", "ledger": "ram"}
    assert two.endpoint.invoke(evicted(two)).status_code == 200
    assert measured(
        two.endpoint,
        lambda now: now("evictions_total", **labels) == before("evictions_total", **labels) + 2,
    )


# --- the server stops -----------------------------------------------------------------------------


def test_a_server_stops_while_models_leave_return_and_wait_for_room(
    yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    two = tight_yard(yard, tmp_path, threads, 2, MODELYARD_DRAIN_TIMEOUT_SECONDS="1")
    go_on = tmp_path / "go on"
    go_on.touch()
    returning = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    (leaving,) = (name for name in two.endpoint.names() if two.is_idle(name))
    with two.held_up(leaving):
        answer = two.begin(returning)
        assert two.becomes(leaving, "EVICTING")
        waiting, load = two.begin_load()
        assert two.becomes(waiting, "LOADING")
        assert two.own.stop() == 0
        assert answer.result().status_code == load.result().status_code == 503
    assert eventually(lambda: not two.own.processes())


def test_a_server_stops_while_a_model_is_loading_anew(
    yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    two = tight_yard(yard, tmp_path, threads, 2, MODELYARD_DRAIN_TIMEOUT_SECONDS="1")
    go_on = tmp_path / "go on"
    go_on.touch()
    name = evicted(two, WAITS_FOR=go_on)
    go_on.unlink()
    answers = [two.begin(name) for _ in range(3)]
    assert eventually(lambda: two.loads(name) == 2)
    assert two.own.stop() == 0
    assert {answer.result().status_code for answer in answers} == {503}


def test_when_the_controller_is_killed_nothing_is_left_whatever_models_were_doing(
    yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    two = tight_yard(yard, tmp_path, threads, 2)
    leaving, staying = two.load(), two.load("pinned = true")
    with two.held_up(leaving):
        _, load = two.begin_load()
        assert two.becomes(leaving, "EVICTING")
        everybody = two.own.processes()
        assert inside.pids(two.endpoint, staying) <= everybody
        two.own.process.kill()
        two.own.process.wait()
        assert eventually(lambda: not any(map(is_running, everybody)))
    # Who dies first is the kernel's choice: a gateway that sees the controller go may say so still.
    assert load.exception() is not None or load.result().status_code == 503


@pytest.mark.slow
def test_a_model_with_packages_of_its_own_comes_back_with_them(
    yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    two = tight_yard(yard, tmp_path, threads, 4)
    made = two.made()
    make_wheel(made / "code" / "wheels", "ownpackage", "1.0")
    (made / "code" / "requirements.txt").write_text("ownpackage\n")
    script = made / "code" / "inference.py"
    script.write_text(f"import ownpackage\n{script.read_text()}")
    assert two.endpoint.load_url(made.name, str(made)).status_code == 200
    environment = two.endpoint.get(made.name).json()["environment"]
    while two.state(made.name) == "READY":
        two.load()
    assert two.endpoint.invoke(made.name).status_code == 200
    assert two.endpoint.get(made.name).json()["environment"] == environment
    assert two.loads(made.name) == 2


# --- what is told of it ---------------------------------------------------------------------------


def test_the_decision_tells_who_left_for_whom(two: Tight) -> None:
    first, second, third = two.load(), two.load("pinned = true"), two.load()
    made = two.decision(third)
    assert (made["cause"], made["outcome"], made["policy"]) == ("load", "evict", "lru")
    assert names(made["victims"]) == [first]
    assert made["victims"][0]["freedBytes"] >= 40 << 20
    assert made["needBytes"]["ram"] > made["freeBytes"]["ram"]
    assert two.endpoint.invoke(first).status_code == 200
    back = two.decision(first)
    assert (back["cause"], names(back["victims"])) == ("return", [third])
    assert {"modelName": second, "reason": "pinned"}.items() <= back["kept"][0].items()
    assert two.decisions(third)[0]["modelName"] == first
