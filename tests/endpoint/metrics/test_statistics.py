"""Many values in a few numbers: what is told of them beside what they were."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint.metrics.statistics import Statistics, merged

VALUES = st.lists(st.floats(0, 1e12).map(lambda value: value if value > 1e-9 else 0.0), min_size=1)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(sorted)


def of(values: list[float]) -> Statistics:
    statistics = Statistics()
    for value in values:
        statistics.add(value)
    return statistics


def exact(values: list[float], share: float) -> float:
    """The least value that this share of all do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


@settings(deadline=None)
@given(VALUES)
def test_count_sum_and_extremes_are_exact(values: list[float]) -> None:
    found = of(values)
    assert (found.count, found.least, found.most) == (len(values), min(values), max(values))
    assert found.total == pytest.approx(sum(values))
    assert found.mean == pytest.approx(sum(values) / len(values))


@settings(deadline=None)
@given(VALUES, SHARES)
def test_quantiles_are_right_within_two_percent(values: list[float], shares: list[float]) -> None:
    found = of(values)
    for share, quantile in zip(shares, found.quantiles(*shares), strict=True):
        assert quantile == found.quantile(share)
        assert quantile == pytest.approx(exact(values, share), rel=0.0201)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_what_is_merged_is_as_if_added_to_one(one: list[float], other: list[float]) -> None:
    whole, all_at_once = merged([of(one), of(other)]), of(one + other)
    assert whole.buckets == all_at_once.buckets
    assert whole.total == pytest.approx(all_at_once.total)
    assert (whole.count, whole.least, whole.most) == (
        all_at_once.count, all_at_once.least, all_at_once.most
    )  # fmt: skip


@settings(deadline=None)
@given(VALUES, st.integers(1, 1000))
def test_a_value_added_several_times_is_as_many_values(values: list[float], times: int) -> None:
    found, several = of(values), of(values)
    several.add(7.0, times)
    for _ in range(times):
        found.add(7.0)
    assert several.buckets == found.buckets
    assert several.total == pytest.approx(found.total)


@settings(deadline=None)
@given(VALUES)
def test_what_was_packed_is_the_same(values: list[float]) -> None:
    assert of(values).packed().unpacked() == of(values)


@settings(deadline=None)
@given(VALUES, st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=9, unique=True).map(sorted))
def test_values_up_to_a_bound_are_counted_within_four_percent(
    values: list[float], bounds: list[float]
) -> None:
    for bound, count in zip(bounds, of(values).up_to(bounds), strict=True):
        assert sum(value <= bound * 0.96 for value in values) <= count
        assert count <= sum(value <= bound for value in values)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_what_is_not_over_a_bound_never_becomes_less(one: list[float], more: list[float]) -> None:
    bounds = [10.0**power for power in range(-3, 13)]
    found = of(one)
    before = found.up_to(bounds)
    for value in more:
        found.add(value)
    assert all(then <= now for then, now in zip(before, found.up_to(bounds), strict=True))


def test_a_value_below_zero_counts_as_zero() -> None:
    found = of([-1.0, 2.0])
    assert (found.least, found.total, found.quantile(0.5)) == (0.0, 2.0, 0.0)
