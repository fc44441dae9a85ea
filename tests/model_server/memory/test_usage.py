"""What two averages of gaps tell about the next use."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.memory.usage import ONCE_FACTOR, Usage


def used_at(*moments: float) -> Usage:
    usage = Usage()
    for moment in moments:
        usage.used(moment)
    return usage


def test_a_model_that_was_never_used_is_never_expected() -> None:
    assert Usage().expected_return(5.0) == inf
    assert Usage().rate(5.0) == 0


def test_a_model_used_once_is_expected_ever_later() -> None:
    assert used_at(100.0).expected_return(110.0) == 10 * ONCE_FACTOR


def test_steady_use_is_expected_after_its_usual_gap() -> None:
    usage = used_at(*range(0, 1000, 10))
    assert usage.expected_return(995.0) == pytest.approx(10)
    assert usage.rate(995.0) == pytest.approx(0.1)


def test_a_model_that_is_overdue_is_expected_later_and_later() -> None:
    usage = used_at(*range(0, 1000, 10))
    assert usage.expected_return(1050.0) == pytest.approx(60)
    assert usage.expected_return(9990.0) == pytest.approx(9000)


def test_after_a_burst_the_usual_pause_is_expected() -> None:
    usage = used_at(*(burst * 600 + second for burst in range(30) for second in range(5)))
    last = 29 * 600 + 4
    assert usage.expected_return(last + 0.5) < 250
    assert 200 < usage.expected_return(last + 300) < 700
    assert usage.long_gap > usage.short_gap


def test_uses_at_the_same_moment_are_no_gap() -> None:
    one, many = used_at(0.0, 60.0, 120.0), used_at(0.0, 60.0, 60.0, 60.0, 120.0, 120.0)
    assert (one.short_gap, one.long_gap) == (many.short_gap, many.long_gap)
    assert many.uses == 6


def test_uses_reported_together_are_a_burst_before_the_report() -> None:
    usage = used_at(0.0)
    usage.used(600.0, 11)
    assert usage.uses == 12
    assert usage.short_gap < 60 < usage.long_gap


def test_a_model_is_hot_while_it_is_used_again_and_again() -> None:
    usage = used_at(0.0, 10.0, 20.0)
    assert usage.is_hot(30.0)
    assert not usage.is_hot(90.0)
    assert not used_at(0.0).is_hot(0.0)


@given(
    gaps=st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 1000)), min_size=1),
    idle=st.floats(0, 1e9),
)
def test_the_expectation_is_always_a_positive_time_that_grows_while_nothing_comes(
    gaps: list[tuple[float, int]], idle: float
) -> None:
    usage, now = Usage(), 0.0
    for gap, times in gaps:
        now += gap
        usage.used(now, times)
    assert usage.uses == sum(times for _, times in gaps)
    assert 0 < usage.expected_return(now) <= usage.expected_return(now + idle) * (1 + 1e-9) < inf
