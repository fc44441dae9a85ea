"""The live table: what each instance has in memory, how fast it answers, who came and who left."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

from examples.demo.models import short
from examples.demo.traffic import Request, Traffic
from examples.demo.watch import Arrival, Instance, Victim, Watch, now

MIB = 1 << 20

_MEMORY_WIDTH = 42
_DEPARTURES = 4


class Board:
    """Looks through ``watch`` and makes lines of what it sees."""

    def __init__(self, watch: Watch, traffic: Traffic) -> None:
        self._watch = watch
        self._traffic = traffic
        self._uses: dict[str, int] = {}
        self._looked_at = now()

    def lines(self) -> list[str]:
        """The table as of now."""
        instances = self._watch.look()
        rates = self._rates(instances)
        departures = [line for one in self._watch.arrivals for line in left_for(one)]
        return [
            row("instance", "state", "in memory, +coming, -leaving", "evicted", "req/s"),
            *(
                row(
                    one.name,
                    one.state,
                    _models(one),
                    str(one.evictions),
                    f"{rates[one.name]:.0f}",
                )
                for one in instances
            ),
            self._totals(),
            *departures[-_DEPARTURES:],
        ]

    def summary(self) -> list[str]:
        """Requests up to now, and how long the cold and the warm ones took."""
        requests = list(self._traffic.requests)
        cold = [one for one in requests if self._is_cold(one)]
        warm = [one for one in requests if not self._is_cold(one)]
        failed = sum(1 for one in requests if one.error)
        return [
            f"{len(requests):,} requests, {failed} errors",
            f"cold, the model was not in memory: {latencies(cold)}",
            f"warm, it was:                      {latencies(warm)}",
        ]

    def _totals(self) -> str:
        requests = self._traffic.requests
        return f"{len(requests):,} requests, {len(self._traffic.errors)} errors"

    def _is_cold(self, request: Request) -> bool:
        return self._watch.came(request.target, request.begin, request.end)

    def _rates(self, instances: Sequence[Instance]) -> dict[str, float]:
        """Requests a second since the last look; an instance that is new starts from 0."""
        at = now()
        elapsed = max(at - self._looked_at, 0.001)
        rates = {
            one.name: max(one.uses - self._uses.get(one.url, one.uses), 0) / elapsed
            for one in instances
        }
        self._uses = {one.url: one.uses for one in instances}
        self._looked_at = at
        return rates


def _models(one: Instance) -> str:
    """Those in memory, and those on their way in or out."""
    marked = [*one.in_memory, *(f"+{t}" for t in one.coming), *(f"-{t}" for t in one.leaving)]
    return " ".join(map(short, marked))


def row(name: str, state: str, memory: str, evicted: str, rate: str) -> str:
    """One line of the table."""
    return f"{name:<10} {state:<9} {memory:<{_MEMORY_WIDTH}} {evicted:>7} {rate:>5}"


def left_for(one: Arrival) -> list[str]:
    """Who left for whom, and what counted; nothing if nobody had to leave."""
    reason = f"for {short(one.target)}"
    return [
        f"{one.instance}: evicted {short(victim.target)} {reason}: {_counted(victim)}"
        for victim in one.victims
    ]


def _counted(victim: Victim) -> str:
    back = victim.back_in_seconds
    use = "never used" if back is None else f"next use in {back:.1f} s"
    return f"{victim.freed_bytes // MIB} MiB, reload {victim.reload_seconds:.1f} s, {use}"


def latencies(requests: Sequence[Request]) -> str:
    """Median and 99th percentile."""
    if len(requests) < 2:
        return f"{len(requests)}"
    cuts = quantiles((one.seconds * 1000 for one in requests), n=100, method="inclusive")
    return f"{len(requests):,}, p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms"
