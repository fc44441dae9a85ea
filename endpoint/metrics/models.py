"""What is known of the requests for each model: totals, and how long they took lately.

The platform has no metrics with models' names; these are kept for so many models at most, and
those go whose last request is the longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from endpoint.metrics.requests import Outcome
from endpoint.metrics.statistics import Statistics, merged

MOST_MODELS = 20_000

# Two halves are kept, so what is shown is of the last five to ten minutes.
_HALF_SECONDS = 300.0

# Whose model it is, endpoint and variant, and its name.
Key = tuple[str, str, str]


class Lately:
    """Values of the last five to ten minutes."""

    __slots__ = ("_before", "_begun", "_now")

    def __init__(self) -> None:
        self._before: Statistics | None = None
        self._now: Statistics | None = None
        self._begun = 0.0

    def add(self, value: float, now: float) -> None:
        """Another value, of now."""
        if self._now is None or now - self._begun >= _HALF_SECONDS:
            self._before = self._now if now - self._begun < 2 * _HALF_SECONDS else None
            self._now = Statistics()
            self._begun = now
        self._now.add(value)

    def values(self, now: float) -> Statistics:
        """All of them; there may be none."""
        age = now - self._begun
        parts = (
            self._before if age < _HALF_SECONDS else None,
            self._now if age < 2 * _HALF_SECONDS else None,
        )
        return merged(part for part in parts if part is not None)


@dataclass(slots=True)
class ModelFigures:
    """The requests for one model. ``latency`` is of those with a result, the wait included.

    ``latency_seconds`` and ``waited_seconds`` are sums since the first request. Values of
    ``latency`` and ``wait`` are seconds.
    """

    latency: Lately
    wait: Lately
    invocations: int = 0
    errors: int = 0
    cold_starts: int = 0
    latency_seconds: float = 0.0
    waited_seconds: float = 0.0
    last_invoked: float = 0.0  # seconds since 1970
    # What ``summary`` made of it last, until there is something new, and when.
    row: dict[str, Any] | None = None
    row_at: float = 0.0


class ModelTable:
    """The figures of all models of all variants, in the order of their last requests."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._figures: OrderedDict[Key, ModelFigures] = OrderedDict()
        self._by_variant: dict[tuple[str, str], dict[str, ModelFigures]] = {}

    def add(self, key: Key, outcome: Outcome, now: float) -> None:
        """One more request. One that its client gave up counts, but has no latency."""
        figures = self._figures.get(key)
        if figures is None:
            figures = self._begin(key)
        else:
            self._figures.move_to_end(key)
        figures.row = None
        figures.invocations += 1
        figures.last_invoked = now
        if outcome.hit is False:
            figures.cold_starts += 1
            figures.waited_seconds += outcome.waited
            figures.wait.add(outcome.waited, now)
        if outcome.status is not None:
            if 200 <= outcome.status < 400:
                figures.latency_seconds += outcome.whole
                figures.latency.add(outcome.whole, now)
            else:
                figures.errors += 1

    def of(self, endpoint: str, variant: str) -> dict[str, ModelFigures]:
        """Those of one variant by the models' names."""
        return dict(self._by_variant.get((endpoint, variant), {}))

    def all(self) -> list[tuple[Key, ModelFigures]]:
        """Those of all, the one whose last request is the longest ago first."""
        return list(self._figures.items())

    def since(self, time: float) -> Iterator[tuple[Key, ModelFigures]]:
        """Those that were invoked then or later, in seconds since 1970; the last one first."""
        for key, figures in reversed(self._figures.items()):
            if figures.last_invoked < time:
                break
            yield key, figures

    def forget(self, endpoint: str) -> None:
        """An endpoint is deleted."""
        for key in [key for key in self._figures if key[0] == endpoint]:
            self._end(key)

    def _begin(self, key: Key) -> ModelFigures:
        figures = self._figures[key] = ModelFigures(Lately(), Lately())
        endpoint, variant, target = key
        self._by_variant.setdefault((endpoint, variant), {})[target] = figures
        if len(self._figures) > self._most:
            self._end(next(iter(self._figures)))
        return figures

    def _end(self, key: Key) -> None:
        del self._figures[key]
        endpoint, variant, target = key
        of_variant = self._by_variant[endpoint, variant]
        del of_variant[target]
        if not of_variant:
            del self._by_variant[endpoint, variant]
