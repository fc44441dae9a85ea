"""When coming and going counts as thrashing."""

from __future__ import annotations

from model_server.memory.thrash import Churn


def returns(churn: Churn, since: float, count: int, every: float, seconds: float) -> float:
    for step in range(count):
        churn.loaded(since + step * every, seconds, since + step * every - 5)
    return since + count * every


def test_loads_of_what_was_not_there_or_left_long_ago_are_no_thrashing() -> None:
    churn = Churn()
    for step in range(500):
        churn.loaded(float(step), 5.0, None)
        churn.loaded(float(step), 5.0, step - 61.0)
    assert not churn.thrashing(500.0)


def test_thrashing_begins_when_much_of_the_time_goes_into_returns_and_ends_later() -> None:
    churn = Churn()
    end = returns(churn, 0.0, 120, 1.0, 0.1)
    assert not churn.thrashing(end)
    end = returns(churn, end, 120, 1.0, 0.4)
    assert churn.thrashing(end)
    end = returns(churn, end, 120, 1.0, 0.2)
    assert churn.thrashing(end)  # not yet below the lower bound
    end = returns(churn, end, 120, 1.0, 0.05)
    assert not churn.thrashing(end)


def test_a_single_long_load_is_no_thrashing_and_silence_ends_it() -> None:
    churn = Churn()
    churn.loaded(0.0, 300.0, -1.0)
    assert not churn.thrashing(0.0)
    end = returns(churn, 0.0, 60, 1.0, 1.0)
    assert churn.thrashing(end)
    assert not churn.thrashing(end + 300)
