"""What has been measured: by the minute for each metric and variant, and lately for each model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from endpoint.metrics.catalog import Metric
from endpoint.metrics.statistics import Statistics

MINUTE = 60

# Kept by the minute; the platform keeps longer.
_MINUTES = 24 * 60

Minutes = dict[int, Statistics]


@dataclass(frozen=True, slots=True)
class Of:
    """Whose values these are: the dimensions of a metric."""

    endpoint: str
    variant: str


class Measures:
    """All values of one process. Not shared between threads; ``clock`` is seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._series: dict[tuple[Metric, Of], Minutes] = {}

    def add(self, metric: Metric, of: Of, value: float) -> None:
        """A value, in the metric's unit, of this minute."""
        minutes = self._series.setdefault((metric, of), {})
        minute = int(self._clock()) // MINUTE * MINUTE
        statistics = minutes.get(minute)
        if statistics is None:
            statistics = minutes[minute] = Statistics()
            while next(iter(minutes)) <= minute - _MINUTES * MINUTE:
                del minutes[next(iter(minutes))]
        statistics.add(value)

    def series(self) -> Iterator[tuple[Metric, Of]]:
        """All that have values."""
        yield from self._series

    def minutes(self, metric: Metric, of: Of) -> Mapping[int, Statistics]:
        """By the second (since 1970) at which a minute begins; {} if there are none."""
        return self._series.get((metric, of), {})
