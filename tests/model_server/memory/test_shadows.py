"""Other policies on the live traffic, side by side."""

from __future__ import annotations

from model_server.memory.policies import CostAware, Lru
from model_server.memory.shadows import Shadows, ShadowTotals


def test_each_policy_keeps_its_own_score() -> None:
    shadows = Shadows([Lru(), CostAware()], 100)
    for at, (name, size) in enumerate([("hot", 10), ("hot", 10), ("big", 90), ("c", 50)] * 3):
        shadows.used(name, size, 1.0, float(at), 1)
    lru, ours = shadows.totals()
    assert (lru.policy, ours.policy) == ("lru", "cost_aware")
    assert lru.hits + lru.misses == ours.hits + ours.misses == 12
    assert ours.reload_seconds == ours.misses <= lru.misses


def test_uses_reported_together_load_the_model_once() -> None:
    shadows = Shadows([Lru()], 100)
    shadows.used("a", 60, 2.0, 1.0, 5)
    assert shadows.totals() == [ShadowTotals("lru", 4, 1, 2.0)]


def test_a_model_that_was_unloaded_takes_no_room_and_a_smaller_limit_holds_from_then_on() -> None:
    shadows = Shadows([Lru()], 100)
    shadows.used("a", 60, 1.0, 1.0, 1)
    shadows.forget("a")
    shadows.used("b", 40, 1.0, 2.0, 1)
    shadows.resize(50)
    shadows.used("c", 50, 1.0, 3.0, 1)
    shadows.used("b", 40, 1.0, 4.0, 1)
    assert shadows.totals() == [ShadowTotals("lru", 0, 4, 4.0)]


def test_no_policy_is_no_work() -> None:
    shadows = Shadows()
    shadows.used("a", 60, 1.0, 1.0, 1)
    assert shadows.totals() == []
