"""When a hot model gets a copy, and when it loses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.routing.copies import (
    WINDOW_SECONDS,
    Change,
    Copies,
    CopyRules,
    Demand,
    copy_to_withdraw,
    place_for_copy,
)
from endpoint.routing.places import Place, Where

RULES = CopyRules(spill_requests=4, copy_idle_seconds=60.0)


def demand_of(running: int, seconds: float) -> Demand:
    demand = Demand(0.0)
    for _ in range(running):
        demand.started(0.0)
    demand.mean(seconds)
    return demand


class Played:
    """A model whose requests are a function of time, with as many instances as it likes."""

    def __init__(self, rules: CopyRules = RULES) -> None:
        self.copies = 1
        self.model = Copies(rules, 0.0)
        self.changes: list[tuple[float, Change]] = []

    def play(self, running: Callable[[float], int], start: float, end: float) -> None:
        """A step each half second; a copy that is added is loaded at the next."""
        now = start
        starting = False
        while now < end:
            self._run(running(now), now)
            change = self.model.decide(now, copies=self.copies, starting=starting)
            starting = change is Change.ADD
            self.copies += {Change.ADD: 1, Change.WITHDRAW: -1, Change.NONE: 0}[change]
            if change is not Change.NONE:
                self.changes.append((now, change))
            now += 0.5

    def _run(self, wanted: int, now: float) -> None:
        while self.model.demand.running < wanted:
            self.model.demand.started(now)
        while self.model.demand.running > wanted:
            self.model.demand.finished(now)


def test_the_mean_follows_what_runs_and_forgets_it() -> None:
    demand = demand_of(10, 0.0)
    assert demand.mean(0.0) == 0.0
    assert demand.mean(WINDOW_SECONDS) == pytest.approx(6.32, abs=0.01)
    assert demand.mean(100 * WINDOW_SECONDS) == pytest.approx(10.0)
    for _ in range(10):
        demand.finished(100 * WINDOW_SECONDS)
    assert demand.mean(101 * WINDOW_SECONDS) == pytest.approx(3.68, abs=0.01)
    assert demand.mean(200 * WINDOW_SECONDS) == pytest.approx(0.0, abs=1e-9)


def test_many_short_requests_count_as_much_as_the_time_they_take() -> None:
    demand = Demand(0.0)
    for step in range(10_000):  # 100 a second, each 5 ms: half a request at any time
        demand.started(step / 100)
        demand.finished(step / 100 + 0.005)
    assert demand.mean(100.0) == pytest.approx(0.5, abs=0.01)


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    demand = demand_of(3, 5.0)
    before = demand.mean(5.0)
    demand.started(5.0)
    demand.finished(4.0)
    assert demand.mean(3.0) == pytest.approx(before)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=50))
def test_the_mean_is_between_nothing_and_the_most_that_ran(
    events: list[tuple[bool, float]],
) -> None:
    demand, now, most = Demand(0.0), 0.0, 0
    for start, elapsed in events:
        now += elapsed
        if start:
            demand.started(now)
        elif demand.running:
            demand.finished(now)
        most = max(most, demand.running)
        assert -1e-9 <= demand.mean(now) <= most + 1e-9


def test_a_model_used_now_and_then_has_one_copy() -> None:
    played = Played()
    played.play(lambda now: int(now) % 3, 0.0, 600.0)
    assert played.changes == []


def test_lasting_demand_brings_as_many_copies_as_it_needs_and_no_more() -> None:
    played = Played()
    played.play(lambda _: 7, 0.0, 600.0)
    assert played.copies == 2
    assert [change for _, change in played.changes] == [Change.ADD]


def test_a_burst_does_not_wait_for_the_mean() -> None:
    played = Played()
    played.play(lambda _: 8, 0.0, 0.5)
    assert played.changes == [(0.0, Change.ADD)]


def test_one_copy_is_started_at_a_time() -> None:
    model = Copies(RULES, 0.0)
    for _ in range(100):
        model.demand.started(0.0)
    assert model.decide(0.0, copies=2, starting=True) is Change.NONE
    assert model.decide(0.0, copies=2, starting=False) is Change.ADD


def test_copies_go_one_by_one_when_they_were_idle_for_long_enough() -> None:
    played = Played()
    played.play(lambda _: 11, 0.0, 100.0)
    assert played.copies == 3
    played.play(lambda _: 0, 100.0, 400.0)
    assert played.copies == 1
    (first, _), (second, _) = played.changes[-2:]
    assert 60.0 <= first - 100.0 <= 60.0 + 2 * WINDOW_SECONDS
    assert second - first >= 60.0


def test_a_copy_stays_that_is_needed_again_in_time() -> None:
    played = Played()
    played.play(lambda now: 7 if now % 60 < 30 else 0, 0.0, 900.0)
    assert played.copies == 2
    assert len(played.changes) == 1


@given(st.integers(0, 60), st.integers(1, 12), st.floats(1, 100))
def test_constant_demand_never_takes_back_a_copy_that_it_brought(
    running: int, spill: int, idle_seconds: float
) -> None:
    played = Played(CopyRules(spill, idle_seconds))
    played.play(lambda _: running, 0.0, 400.0)
    assert {change for _, change in played.changes} <= {Change.ADD}
    assert spill * (played.copies - 1) <= running


@given(st.integers(0, 60), st.integers(0, 60))
def test_more_demand_never_means_fewer_copies(one: int, other: int) -> None:
    def copies(running: int) -> int:
        played = Played()
        played.play(lambda _: running, 0.0, 300.0)
        return played.copies

    less, more = sorted((one, other))
    assert copies(less) <= copies(more)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_the_last_copy_is_never_taken_and_all_others_go_in_the_end(phases: list[int]) -> None:
    played = Played()
    for number, running in enumerate(phases):
        played.play(lambda _, running=running: running, 70.0 * number, 70.0 * (number + 1))  # type: ignore[misc]
        assert played.copies >= 1
    end = 70.0 * len(phases)
    played.play(lambda _: 0, end, end + 100.0 * (played.copies + 1))
    assert played.copies == 1


def holder(instance: str, requests: int, model_requests: int = 0, loaded_bytes: int = 0) -> Place:
    return Place(instance, Where.LOADED, model_requests, requests, loaded_bytes, 100)


def others(*busy: int) -> Iterator[Place]:
    for number, requests in enumerate(busy):
        yield Place(f"other{number}", Where.ABSENT, 0, requests, 0, 100)


def test_a_copy_goes_to_an_instance_that_has_less_to_do() -> None:
    assert place_for_copy([holder("a", 9), *others(12, 5)], key="m") == "other1"


def test_a_copy_goes_nowhere_if_all_others_are_as_busy() -> None:
    assert place_for_copy([holder("a", 5), holder("b", 9), *others(5, 7)], key="m") is None


def test_a_copy_goes_nowhere_if_every_instance_has_one() -> None:
    assert place_for_copy([holder("a", 5), holder("b", 0)], key="m") is None
    assert place_for_copy([], key="m") is None


def test_a_copy_goes_where_the_model_is_on_disk_already() -> None:
    on_disk = Place("disk", Where.ON_DISK, 0, 3, 1000, 1)
    assert place_for_copy([holder("a", 5), *others(0), on_disk], key="m") == "disk"


def test_the_least_used_copy_is_withdrawn_and_of_equals_the_one_in_least_room() -> None:
    places = [holder("a", 5, 1), holder("b", 5, 0, 10), holder("c", 9, 0, 20)]
    assert copy_to_withdraw(places, key="m") == "c"


def test_a_copy_that_is_the_only_one_or_still_loads_is_not_withdrawn() -> None:
    loading = Place("b", Where.LOADING, 0, 0, 0, 100)
    assert copy_to_withdraw([holder("a", 5), loading, *others(0)], key="m") is None
