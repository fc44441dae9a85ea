"""How many workers there should be, for any history of requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_server.scaling import Bounds, Demand, wanted_workers

IDLE = 60.0


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    minimum = draw(st.integers(1, 20))
    return Bounds(minimum, minimum + draw(st.integers(0, 40)), draw(st.floats(0.001, 1e4)))


# Seconds until a look, and what it sees.
looks = st.lists(st.tuples(st.floats(0.0, 200.0), st.integers(0, 500)), max_size=40)


class History:
    """Looks one after another, as the server does."""

    def __init__(self, limits: Bounds) -> None:
        self.limits = limits
        self.now = 0.0
        self.wanted = limits.minimum
        self.demand = Demand(0, 0.0)

    def look(self, after: float, at_once: int) -> int:
        self.now += after
        self.wanted, self.demand = wanted_workers(
            self.demand, at_once=at_once, wanted=self.wanted, bounds=self.limits, now=self.now
        )
        return self.wanted


@given(bounds(), looks)
def test_never_fewer_or_more_than_the_settings_allow(
    limits: Bounds, seen: list[tuple[float, int]]
) -> None:
    history = History(limits)
    for after, at_once in seen:
        assert limits.minimum <= history.look(after, at_once) <= limits.maximum


@given(bounds(), looks)
def test_more_only_when_requests_wait_and_at_most_twice_as_many(
    limits: Bounds, seen: list[tuple[float, int]]
) -> None:
    history = History(limits)
    for after, at_once in seen:
        before = history.wanted
        if history.look(after, at_once) > before:
            assert at_once >= history.wanted > before
            assert history.wanted <= 2 * before


@given(bounds(), looks)
def test_fewer_only_when_fewer_would_have_done_for_all_of_the_idle_time(
    limits: Bounds, seen: list[tuple[float, int]]
) -> None:
    history, past = History(limits), [(0.0, 0)]
    for after, at_once in seen:
        before = history.wanted
        wanted = history.look(after, at_once)
        past.append((history.now, at_once))
        if wanted < before:
            since = history.now - limits.idle_seconds
            assert all(wanted >= peak for when, peak in past if when > since)


@given(bounds(), st.integers(0, 500))
def test_steady_demand_is_met_within_a_few_looks(limits: Bounds, at_once: int) -> None:
    history = History(limits)
    for _ in range(7):
        history.look(0.1, at_once)
    assert history.wanted == max(min(at_once, limits.maximum), limits.minimum)


@given(bounds(), looks)
def test_it_comes_back_to_the_minimum_when_nobody_asks(
    limits: Bounds, seen: list[tuple[float, int]]
) -> None:
    history = History(limits)
    for after, at_once in seen:
        history.look(after, at_once)
    for _ in range(2):
        history.look(limits.idle_seconds * 1.01, 0)
    assert history.wanted == limits.minimum


@given(st.integers(1, 60))
def test_as_many_requests_as_workers_change_nothing(workers: int) -> None:
    history = History(Bounds(1, 60, IDLE))
    history.wanted = workers
    for _ in range(100):
        assert history.look(10.0, workers) == workers


def test_a_burst_does_not_start_a_worker_for_each_of_its_requests() -> None:
    history = History(Bounds(1, 64, IDLE))
    assert [history.look(0.1, 100) for _ in range(7)] == [2, 4, 8, 16, 32, 64, 64]


def test_the_highest_peak_of_the_idle_time_decides_how_many_stay() -> None:
    history = History(Bounds(1, 8, IDLE))
    for _ in range(3):
        history.look(0.1, 8)
    history.look(IDLE / 2, 3)
    assert history.look(IDLE / 2 - 1.0, 0) == 8
    assert history.look(2.0, 0) == 8  # eight were needed when the idle time began
    assert history.look(IDLE, 0) == 1
