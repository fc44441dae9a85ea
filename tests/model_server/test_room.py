"""Room for models: who leaves, who waits, who is refused, and that nothing is promised twice."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_server import probe

from ..contract.endpoint import Endpoint, assert_error
from ..contract.polling import eventually
from ..contract.server import OwnServer, Server
from . import inside
from .conftest import QUICK, Yard
from .measured import Numbers, measured
from .tight import MIB, SIZE_MB, Tight, fitting, names, tight_yard
from .told import running

TightYard = Callable[..., Tight]


@pytest.fixture
def tight(yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor) -> Iterator[TightYard]:
    """Starts a server that fits so many models."""
    made: list[Tight] = []

    def begin(models: int, **settings: str) -> Tight:
        made.append(tight_yard(yard, tmp_path, threads, models, **settings))
        return made[-1]

    yield begin
    for each in made:
        for release in each.releases:
            release.touch()


@pytest.fixture(scope="module")
def curt_server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "curt.log"
    settings = fitting(
        2, MODELYARD_MEMORY_WAIT_SECONDS="0.3", MODELYARD_EVICTION_POLICY="cost_aware"
    )
    with running(models_dir, log, settings) as own:
        yield own


@pytest.fixture
def curt(
    curt_server: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],
    tmp_path: Path,
    threads: ThreadPoolExecutor,
) -> Iterator[Tight]:
    """A server where two models fit, and which does not wait for long."""
    made = Tight(curt_server, endpoint_of(curt_server), tmp_path, threads)
    yield made
    made.clear()


def sizes(message: str) -> bool:
    """Whether it says what is needed, in words."""
    return re.search(r"the model needs about \d+ MiB", message) is not None


# --- who may not leave ----------------------------------------------------------------------------


def test_when_all_are_busy_a_load_is_507_after_a_while_and_says_what_there_is(curt: Tight) -> None:
    both = [curt.load(), curt.load()]
    ends = [curt.keep_busy(name) for name in both]
    new, load = curt.begin_load()
    message = assert_error(load.result(), 507)
    assert sizes(message) and "is free: of the limit of" in message
    assert "no model can leave now: 2 busy" in message and "It waited" in message
    assert "MODELYARD_MEMORY_LIMIT_BYTES" in message
    assert curt.endpoint.names() == set(both)
    assert [end().status_code for end in ends] == [200, 200]
    assert [curt.loads(name) for name in (*both, new)] == [1, 1, 0]
    refused = curt.decision(new)
    assert (refused["cause"], refused["outcome"], refused["victims"]) == ("load", "wait", [])
    assert refused["waitedSeconds"] >= 0.3
    assert {kept["reason"] for kept in refused["kept"]} == {"busy"}


def test_an_invoke_that_waits_in_vain_for_room_is_507_and_its_model_stays_evicted(
    curt: Tight,
) -> None:
    pinned, name = curt.load("pinned = true"), curt.load()
    assert eventually(lambda: curt.begin_load()[1].result().status_code == 200)
    assert curt.state(name) == "EVICTED"
    (other,) = curt.endpoint.names() - {pinned, name}
    end = curt.keep_busy(other)
    message = assert_error(curt.endpoint.invoke(name), 507)
    assert "1 busy" in message and "1 pinned" in message
    assert (curt.state(name), curt.state(other), curt.loads(pinned)) == ("EVICTED", "READY", 1)
    end()
    assert eventually(lambda: curt.endpoint.invoke(name).status_code == 200)


def test_a_model_that_was_loaded_just_now_stays(curt: Tight) -> None:
    kept = [curt.load(SECONDS=1), curt.load(SECONDS=1)]
    _, load = curt.begin_load()
    assert "loaded just now" in assert_error(load.result(), 507)
    assert [curt.state(name) for name in kept] == ["READY", "READY"]


def test_pins_that_fill_memory_are_named_and_nobody_waits_for_them(curt: Tight) -> None:
    for _ in range(2):
        curt.load("pinned = true")
    new, load = curt.begin_load()
    message = assert_error(load.result(), 507)
    assert "2 pinned models hold" in message and sizes(message)
    assert curt.decision(new)["outcome"] == "refuse"  # not "wait"


def test_what_is_larger_than_all_memory_is_507_at_once_and_nobody_leaves_for_it(
    curt: Tight,
) -> None:
    both = {curt.load(), curt.load()}
    new, load = curt.begin_load(mb=1000)
    message = assert_error(load.result(), 507)
    assert sizes(message) and "more than all models may take" in message
    assert curt.decision(new)["outcome"] == "refuse"  # not "wait"
    assert curt.endpoint.names() == both
    assert {curt.state(name) for name in both} == {"READY"}
    assert Numbers(curt.endpoint)("memory_refusals_total", cause="load") >= 1


def test_a_model_that_takes_more_than_was_thought_is_loaded_all_the_same(curt: Tight) -> None:
    both = [curt.load(), curt.load()]
    curt.rest(*both)
    new, load = curt.begin_load(mb=1, HOLDS_MB=80)
    assert load.result().status_code == 200
    assert curt.state(new) == "READY"
    assert eventually(lambda: curt.ledger()["freeBytes"] >= 0)
    assert "EVICTED" in {curt.state(name) for name in both}


def test_a_model_that_turns_out_to_be_too_large_is_507_and_leaves_no_trace(curt: Tight) -> None:
    before = curt.ledger()["heldBytes"]
    new, load = curt.begin_load(mb=1, HOLDS_MB=400)
    assert_error(load.result(), 507)
    assert new not in curt.endpoint.names()
    assert curt.ledger()["heldBytes"] == before
    assert curt.endpoint.invoke(curt.load()).status_code == 200


# --- who waits ------------------------------------------------------------------------------------


def test_a_load_goes_on_when_a_busy_model_becomes_idle(tight: TightYard) -> None:
    yard = tight(2, MODELYARD_MEMORY_WAIT_SECONDS="60")
    first, second = yard.load(), yard.load()
    end, end_other = yard.keep_busy(first), yard.keep_busy(second)
    new, load = yard.begin_load()
    assert yard.becomes(new, "LOADING")
    assert end().status_code == 200
    assert load.result().status_code == 200
    assert [yard.state(name) for name in (first, second, new)] == ["EVICTED", "READY", "READY"]
    made = yard.decision(new)
    assert (made["outcome"], names(made["victims"])) == ("evict", [first])
    assert made["waitedSeconds"] > 0
    answer = yard.begin(first)
    assert yard.becomes(first, "READY")  # by the one that is idle
    assert (answer.result().status_code, yard.state(new)) == (200, "EVICTED")
    assert end_other().status_code == 200
    assert measured(yard.endpoint, lambda now: now("memory_wait_seconds_count") >= 1)


def test_a_load_that_waits_for_room_can_be_unloaded(tight: TightYard) -> None:
    yard = tight(2, MODELYARD_MEMORY_WAIT_SECONDS="60")
    ends = [yard.keep_busy(yard.load()) for _ in range(2)]
    new, load = yard.begin_load()
    assert yard.becomes(new, "LOADING")
    assert yard.endpoint.unload(new).status_code == 200
    assert "unloaded while it was loading" in assert_error(load.result(), 503)
    assert [end().status_code for end in ends] == [200, 200]
    assert yard.loads(new) == 0


# --- policies -------------------------------------------------------------------------------------


def test_lru_lets_the_longest_unused_go(tight: TightYard) -> None:
    yard = tight(2)
    first, second = yard.load(), yard.load()
    assert yard.endpoint.invoke(first).status_code == 200
    assert eventually(lambda: yard.known(first)["uses"] == 1)
    yard.rest(first, second)
    third = yard.load()
    assert [yard.state(name) for name in (first, second, third)] == ["READY", "EVICTED", "READY"]
    kept = {choice["modelName"]: choice["reason"] for choice in yard.decision(third)["kept"]}
    assert kept == {first: "worth more"}


def test_platform_refuses_and_touches_nothing(tight: TightYard) -> None:
    yard = tight(2, MODELYARD_EVICTION_POLICY="platform")
    both = [yard.load(), yard.load()]
    before = [inside.pids(yard.endpoint, name) for name in both]
    new, load = yard.begin_load()
    message = assert_error(load.result(), 507)
    assert "the policy platform evicts nothing" in message and "MiB is free" in message
    assert [inside.pids(yard.endpoint, name) for name in both] == before
    assert yard.decision(new)["outcome"] == "refuse"
    assert yard.endpoint.unload(both[0]).status_code == 200  # as the platform does then
    assert yard.endpoint.load_url("new", str(yard.own.models_dir / new)).status_code == 200


def test_cost_aware_keeps_what_is_used_often_and_what_is_slow_to_load(tight: TightYard) -> None:
    yard = tight(3, MODELYARD_EVICTION_POLICY="cost_aware")
    used, slow, other = yard.load(), yard.load(SECONDS=1), yard.load()
    for name in (slow, other) * 3:
        assert yard.endpoint.invoke(name).status_code == 200
    yard.rest(used, slow, other)
    for _ in range(9):
        assert yard.endpoint.invoke(used).status_code == 200
    assert eventually(
        lambda: [yard.known(name)["uses"] for name in (used, slow, other)] == [9, 3, 3]
    )
    new = yard.load()
    made = yard.decision(new)
    assert names(made["victims"]) == [other]
    assert {yard.state(name) for name in (used, slow, new)} == {"READY"}


# --- never too much -------------------------------------------------------------------------------


@contextmanager
def sampled(yard: Tight) -> Iterator[list[tuple[int, int]]]:
    """Free bytes by the ledger less those still to leave, and what all processes hold, by turns."""
    samples: list[tuple[int, int]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            held = sum(probe.private_bytes(pid) for pid in yard.own.processes())
            samples.append((yard.ledger()["freeBytes"], held))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def test_loads_and_returns_at_once_never_take_more_than_there_is(tight: TightYard) -> None:
    yard = tight(3)
    models = [yard.load() for _ in range(3)]
    limit = yard.ledger()["limitBytes"]
    with sampled(yard) as samples:
        loads = [yard.begin_load() for _ in range(4)]
        answers = [yard.begin(name) for _ in range(2) for name in models]
        assert {load.result().status_code for _, load in loads} == {200}
        assert {answer.result().status_code for answer in answers} == {200}
        more = [yard.begin(name) for name in yard.endpoint.names() for _ in range(2)]
        assert {answer.result().status_code for answer in more} == {200}
    assert len(samples) >= 3
    assert min(free for free, _ in samples) >= 0
    assert max(held for _, held in samples) <= limit
    assert yard.ledger()["leavingBytes"] == 0
    assert yard.ledger()["heldBytes"] <= 3 * (SIZE_MB + 8) * MIB


def test_a_model_that_grows_makes_others_leave(tight: TightYard) -> None:
    yard = tight(3)
    first, second = yard.load(), yard.load()
    growing = yard.load(behaviour="doubles_after_load", MIB=SIZE_MB)
    assert yard.endpoint.invoke(growing).text == str(2 * SIZE_MB)
    assert eventually(lambda: "EVICTED" in (yard.state(first), yard.state(second)))
    assert (yard.state(growing), yard.endpoint.invoke(growing).status_code) == ("READY", 200)
    assert eventually(lambda: yard.ledger()["leavingBytes"] == 0)
    assert yard.ledger()["freeBytes"] >= 0
    grown = [each for each in yard.decisions(growing) if each["cause"] == "growth"]
    assert any(set(names(each["victims"])) <= {first, second} for each in grown)


def test_sizes_are_learned_for_the_next_start(
    yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    learned = {**QUICK, "MODELYARD_LEARNED_SIZES_FILE": str(tmp_path / "sizes.json")}
    first = tight_yard(yard, tmp_path, threads, 4, **learned)
    name = first.load(mb=4, HOLDS_MB=60)
    took = first.known(name)["heldBytes"]["ram"]
    assert first.decision(name)["needBytes"]["ram"] < took
    assert first.own.stop() == 0
    second = tight_yard(yard, tmp_path, threads, 4, **learned)
    second.load(mb=1)  # so that a zygote is there
    assert second.endpoint.load_url(name, str(second.own.models_dir / name)).status_code == 200
    need = second.decision(name)["needBytes"]["ram"]
    assert abs(need - took) < 0.05 * took


@pytest.mark.parametrize("limit", ["0", "-5", "much", "1e9"])
def test_a_limit_that_is_none_is_told_and_nothing_starts(
    serve: Callable[..., OwnServer], models_dir: Path, limit: str
) -> None:
    own = serve(**QUICK, MODELYARD_MEMORY_LIMIT_BYTES=limit)
    assert own.process.wait(60) != 0
    assert "memory_limit_bytes" in own.log.read_text().lower()
