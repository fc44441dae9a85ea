"""Which variant takes a request."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from endpoint.routing.variants import pick

WEIGHTS = st.lists(st.floats(0, allow_infinity=False), min_size=1, max_size=10).map(
    lambda weights: [(str(number), weight) for number, weight in enumerate(weights)]
)


def test_requests_are_shared_as_the_weights_say() -> None:
    taken = Counter(pick([("a", 3.0), ("b", 1.0)], step / 1000) for step in range(1000))
    assert taken == {"a": 750, "b": 250}


def test_a_variant_without_weight_gets_nothing() -> None:
    assert {pick([("a", 0.0), ("b", 0.1), ("c", 0.0)], n / 10) for n in range(10)} == {"b"}


def test_without_any_weight_there_is_no_variant() -> None:
    assert pick([("a", 0.0), ("b", 0.0)], 0.5) is None
    assert pick([], 0.0) is None


def test_weights_that_are_too_large_to_add_up_are_shared_all_the_same() -> None:
    weights = [("a", 1.7e308), ("b", 1.7e308)]
    assert pick(weights, 0.25) == "a"
    assert pick(weights, 0.75) == "b"


def test_weights_whose_sum_is_inexact_leave_no_gap_at_the_end() -> None:
    weights = [(str(number), 0.1) for number in range(10)]
    assert pick(weights, 1 - 2**-53) == "9"


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_what_is_taken_has_weight(weights: list[tuple[str, float]], dice: float) -> None:
    taken = pick(weights, dice)
    assert (taken is None) == (not any(weight for _, weight in weights))
    assert taken is None or dict(weights)[taken] > 0
