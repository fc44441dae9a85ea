"""The simulated cache: what it counts, and that it does the same each time."""

from __future__ import annotations

import random

import pytest

from benchmarks.eviction import Drift, compared, drifting_zipf, rows
from model_server.memory.policies import CostAware, Lru, Platform, Policy
from model_server.memory.simulation import Access, Cache
from modelyard.traces import Trace

SHORT = Drift(models=150, uses=6_000)


def run(policy: Policy, trace: Trace, limit_bytes: int) -> Cache:
    cache = Cache(policy, limit_bytes)
    for at, number in trace.uses():
        cache.use(f"m{number}", trace.size_bytes[number], trace.reload_seconds[number], at)
        assert 0 <= cache.held_bytes <= limit_bytes
    return cache


def test_a_use_finds_its_model_or_waits_for_its_load() -> None:
    cache = Cache(Lru(), 100)
    assert cache.use("a", 60, 2.0, 0.0) == Access(False, 2.0, ())
    assert cache.use("a", 60, 2.0, 1.0) == Access(True)
    assert cache.use("b", 60, 3.0, 2.0) == Access(False, 3.0, ["a"])
    assert (cache.hits, cache.misses, cache.reload_seconds, cache.held_bytes) == (1, 2, 5.0, 60)
    assert "b" in cache
    assert "a" not in cache


def test_what_finds_no_room_is_refused_and_charged() -> None:
    cache = Cache(Platform(), 100)
    cache.use("a", 60, 2.0, 0.0)
    assert cache.use("b", 60, 3.0, 2.0).refused
    assert cache.use("huge", 101, 4.0, 3.0) == Access(False, 4.0, (), refused=True)
    assert (cache.misses, cache.refused, cache.reload_seconds) == (3, 2, 9.0)


def test_a_model_that_grows_or_goes_is_accounted() -> None:
    cache = Cache(Lru(), 100)
    cache.use("a", 40, 1.0, 0.0)
    cache.use("a", 70, 1.0, 1.0, times=3)
    assert (cache.held_bytes, cache.hits) == (70, 3)
    cache.forget("a")
    cache.forget("unknown")
    assert cache.held_bytes == 0


def test_use_is_remembered_over_an_eviction() -> None:
    cache = Cache(CostAware(), 100)
    for step in range(10):
        cache.use("often", 60, 1.0, float(step))
    cache.use("once", 60, 1.0, 10.0)
    cache.use("often", 60, 1.0, 11.0)
    cache.use("small", 40, 1.0, 12.0)
    cache.use("other", 40, 1.0, 13.0)
    assert "often" in cache


@pytest.mark.parametrize("policy", [CostAware(), Lru()])
def test_the_same_trace_costs_the_same_each_time(policy: Policy) -> None:
    first, second = (drifting_zipf(3, SHORT) for _ in range(2))
    assert first.models == second.models
    limit = first.total_bytes // 5
    one, other = (run(policy, trace, limit) for trace in (first, second))
    assert (one.hits, one.misses, one.reload_seconds) == (
        other.hits,
        other.misses,
        other.reload_seconds,
    )
    assert one.hits + one.misses == SHORT.uses


@pytest.mark.parametrize("seed", range(1, 4))
def test_cost_aware_beats_lru_where_favourites_drift(seed: int) -> None:
    seconds, misses = compared(drifting_zipf(seed, SHORT), 0.2, CostAware())
    assert seconds <= 0.85
    assert misses <= 0.85


def test_models_of_one_size_are_never_refused_however_much_they_churn() -> None:
    rng, cache = random.Random(1), Cache(CostAware(), 50)
    for step in range(4_000):
        cache.use(f"m{rng.randrange(400)}", 1, 2.0, step * 0.1)
    assert cache.refused == 0
    assert cache.misses > 2_000


def test_the_benchmark_tells_what_was_promised() -> None:
    promised = {row.title: row.at_most for row in rows(seeds=(1,))}
    assert promised["a plan over 5,000 models, ms"] == 2.0
    assert promised["drifting Zipf, 10%: seconds of lru's"] == 0.80
