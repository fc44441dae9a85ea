"""What eviction by cost saves against the least recently used, and what a plan takes.

Nothing is served here: the server's own policies and plans run over made-up and recorded traces.
"""

from __future__ import annotations

import argparse
import random
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import mean, median

from model_server.memory.ledger import RAM, Ledger
from model_server.memory.plan import Need, make_plan
from model_server.memory.policies import COST_EXPONENT, CostAware, Lru, Policy
from model_server.memory.resident import Resident
from model_server.memory.simulation import Cache
from model_server.memory.usage import Usage
from modelyard.azure_trace import read_azure
from modelyard.traces import Trace

SHARES = (0.10, 0.20, 0.40)
SEEDS = tuple(range(1, 13))
PLANNED_OVER = 5_000
_MIB = 1 << 20
_OURS = CostAware()


@dataclass(frozen=True)
class Row:
    """A figure and what was promised of it; ``at_most`` is None where nothing was."""

    title: str
    value: float
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.at_most is None or self.value <= self.at_most


@dataclass(frozen=True)
class Drift:
    """A workload whose favourites change: every ``every`` uses, a share of models trade places."""

    models: int = 400
    uses: int = 60_000
    skew: float = 0.9
    every: int = 500
    share: float = 0.02
    uses_per_second: float = 5.0


def drifting_zipf(seed: int, drift: Drift | None = None) -> Trace:
    """Zipf traffic over models with lognormal sizes and reload seconds, which go with the size."""
    drift = drift or Drift()
    rng, trace = random.Random(seed), Trace()
    for number in range(drift.models):
        trace.number(f"m{number}")
        size = rng.gauss(0, 1)
        trace.size_bytes[number] = int(100 * _MIB * 2.718281828**size)
        trace.reload_seconds[number] = 2.718281828 ** (0.6 * size + 0.8 * rng.gauss(0, 1))
    ranks = list(range(drift.models))
    rng.shuffle(ranks)
    chances = list(accumulate((rank + 1) ** -drift.skew for rank in range(drift.models)))
    at = 0.0
    for use in range(drift.uses):
        if use % drift.every == 0:
            _trade(ranks, rng, int(drift.share * drift.models))
        at += rng.expovariate(drift.uses_per_second)
        trace.add(at, ranks[bisect_left(chances, rng.random() * chances[-1])])
    return trace


def _trade(ranks: list[int], rng: random.Random, count: int) -> None:
    for _ in range(count):
        one, other = rng.randrange(len(ranks)), rng.randrange(len(ranks))
        ranks[one], ranks[other] = ranks[other], ranks[one]


def compared(trace: Trace, share: float, policy: Policy) -> tuple[float, float]:
    """Reload seconds and misses of a policy, as shares of those of ``lru``."""
    limit_bytes = int(share * trace.total_bytes)
    ours, lru = (_run(trace, each, limit_bytes) for each in (policy, Lru()))
    return ours.reload_seconds / lru.reload_seconds, ours.misses / lru.misses


def _run(trace: Trace, policy: Policy, limit_bytes: int) -> Cache:
    cache = Cache(policy, limit_bytes)
    for at, number in trace.uses():
        cache.use(trace.names[number], trace.size_bytes[number], trace.reload_seconds[number], at)
    return cache


def zipf_rows(seeds: Sequence[int] = SEEDS, policy: Policy = _OURS) -> Iterator[Row]:
    """Means over the seeds at each size of memory, and the worst of all."""
    worst = 0.0
    for share in SHARES:
        found = [compared(drifting_zipf(seed), share, policy) for seed in seeds]
        seconds = [each for each, _ in found]
        worst = max(worst, *seconds)
        yield Row(f"drifting Zipf, {share:.0%}: seconds of lru's", mean(seconds), 0.80)
        yield Row(f"drifting Zipf, {share:.0%}: misses of lru's", mean(m for _, m in found))
    yield Row(f"drifting Zipf: the worst of {len(seeds)} seeds", worst, 1.0)


def azure_rows(directory: Path, policy: Policy = _OURS) -> Iterator[Row]:
    """The same for the recorded trace."""
    trace = read_azure(directory).finish({})
    for share in SHARES:
        seconds, misses = compared(trace, share, policy)
        promised = 1.0 if share <= 0.20 else None
        yield Row(f"Azure 2019, {share:.0%}: seconds of lru's", seconds, promised)
        yield Row(f"Azure 2019, {share:.0%}: misses of lru's", misses, promised)


def plan_row(models: int = PLANNED_OVER) -> Row:
    """How long a plan over many models takes, in ms."""
    rng, residents = random.Random(1), []
    for number in range(models):
        usage, at = Usage(), rng.random() * 1000
        for _ in range(rng.randrange(1, 6)):
            usage.used(at)
            at += rng.expovariate(1 / 100)
        held = {RAM: rng.randrange(16 * _MIB, 256 * _MIB)}
        residents.append(Resident(f"m{number}", held, rng.random(), usage))
    total = sum(resident.held[RAM] for resident in residents)
    ledgers = {RAM: Ledger(RAM, total, 0, total)}
    need, taken = Need("new", {RAM: 256 * _MIB}), []
    for _ in range(30):
        began = time.perf_counter()
        make_plan(need, residents, ledgers, CostAware(), now=2_000.0)
        taken.append(1000 * (time.perf_counter() - began))
    return Row(f"a plan over {models:,} models, ms", median(taken), 2.0)


def rows(
    azure: Path | None = None, seeds: Sequence[int] = SEEDS, policy: Policy = _OURS
) -> Iterator[Row]:
    """Every figure; those of the Azure trace when its directory is given."""
    yield plan_row()
    yield from zipf_rows(seeds, policy)
    if azure is not None:
        yield from azure_rows(azure, policy)


def main() -> int:
    """Print the table; 1 when a promise is not kept."""
    parser = argparse.ArgumentParser("python -m benchmarks.eviction", description=__doc__)
    parser.add_argument("--azure", type=Path, metavar="DIR", help="the Azure trace of 2019")
    parser.add_argument("--quick", action="store_true", help="two seeds instead of twelve")
    parser.add_argument(
        "--exponent",
        type=float,
        default=COST_EXPONENT,
        help="how much reload seconds count in cost_aware; default: %(default)s, the server's",
    )
    options = parser.parse_args()
    policy, missed = CostAware(exponent=options.exponent), 0
    for row in rows(options.azure, SEEDS[:2] if options.quick else SEEDS, policy):
        if options.exponent != COST_EXPONENT:  # nothing was promised of another
            row = Row(row.title, row.value)
        bound = "" if row.at_most is None else f"<= {row.at_most:g} {'' if row.met else 'MISSED'}"
        print(f"{row.title:45} {row.value:8.3f}  {bound}".rstrip(), flush=True)
        missed += not row.met
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
