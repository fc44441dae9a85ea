"""The requests of one variant, counted in well under a microsecond each.

What is 0 or 1 for each request is counted in plain numbers, and goes into the series of its metric
when somebody asks for that, or when the minute is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from endpoint.metrics import catalog
from endpoint.metrics.catalog import Metric
from endpoint.metrics.series import MINUTE, Series
from endpoint.metrics.statistics import Statistics

_MICROSECONDS = 1e6
_RING = MINUTE  # seconds


@dataclass(slots=True)
class Outcome:
    """What became of one request that reached a variant. Times are seconds.

    ``status`` is the client's answer; of a container's error it is what the container said, 0 when
    that said nothing usable; None when the client hung up before there was an answer. ``hit`` is as
    in ``Progress``; ``serving`` counts the instances that served just then.
    """

    status: int | None
    model_failed: bool
    hit: bool | None
    waited: float
    in_model: float
    whole: float
    serving: int


@dataclass(slots=True)
class _Counts:
    """Of requests that are in no series yet."""

    requests: int = 0
    answered: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    model_errors: int = 0
    hits: int = 0
    misses: int = 0
    by_serving: dict[int, int] = field(default_factory=dict)


class Requests:
    """Counts the requests of one variant into ``series``. Times are seconds since 1970."""

    def __init__(self, series: dict[Metric, Series], now: float) -> None:
        self._series = series
        self._counts = _Counts()
        self._begun = now
        self._minute_end = 0.0
        self._model: Statistics
        self._overhead: Statistics
        self._seconds = [0] * _RING  # which second each place of the ring is of
        self._in_second = [0] * _RING

    def add(self, outcome: Outcome, now: float) -> None:
        """One more request has been answered, or given up."""
        if now >= self._minute_end:
            self._turn(now)
        self._count(int(now))
        counts = self._counts
        counts.requests += 1
        counts.by_serving[outcome.serving] = counts.by_serving.get(outcome.serving, 0) + 1
        if outcome.hit is not None:
            if outcome.hit:
                counts.hits += 1
            else:
                counts.misses += 1
                self._at(catalog.MODEL_LOADING_WAIT_TIME, now).add(outcome.waited * _MICROSECONDS)
        if outcome.status is None:
            return
        counts.answered += 1
        if outcome.in_model:
            self._model.add(outcome.in_model * _MICROSECONDS)
        self._overhead.add((outcome.whole - outcome.in_model) * _MICROSECONDS)
        if outcome.model_failed:
            counts.model_errors += 1
        if not 200 <= outcome.status < 400:
            if 400 <= outcome.status < 500:
                counts.errors_4xx += 1
            else:
                counts.errors_5xx += 1

    def settle(self) -> None:
        """Bring what was counted into the series, as values of its minute."""
        if not self._counts.requests:
            return
        counts, self._counts = self._counts, _Counts()
        at = self._minute_end - MINUTE
        self._at(catalog.INVOCATIONS, at).add(1, counts.requests)
        for serving, times in counts.by_serving.items():
            if serving:
                self._at(catalog.INVOCATIONS_PER_INSTANCE, at).add(1 / serving, times)
        self._shares(catalog.INVOCATION_4XX_ERRORS, counts.errors_4xx, counts.answered, at)
        self._shares(catalog.INVOCATION_5XX_ERRORS, counts.errors_5xx, counts.answered, at)
        self._shares(catalog.INVOCATION_MODEL_ERRORS, counts.model_errors, counts.answered, at)
        self._shares(catalog.MODEL_CACHE_HIT, counts.hits, counts.hits + counts.misses, at)

    def per_second(self, now: float) -> float:
        """The mean rate of the last minute, or of the time since the first request."""
        second = int(now)
        pairs = zip(self._seconds, self._in_second, strict=True)
        lately = sum(count for at, count in pairs if second - _RING < at <= second)
        return lately / min(max(now - self._begun, 1.0), _RING)

    def _count(self, second: int) -> None:
        place = second % _RING
        if self._seconds[place] == second:
            self._in_second[place] += 1
        else:
            self._seconds[place] = second
            self._in_second[place] = 1

    def _turn(self, now: float) -> None:
        """This is another minute."""
        self.settle()
        self._minute_end = float(int(now) // MINUTE * MINUTE + MINUTE)
        self._model = self._at(catalog.MODEL_LATENCY, now)
        self._overhead = self._at(catalog.OVERHEAD_LATENCY, now)

    def _shares(self, metric: Metric, ones: int, times: int, at: float) -> None:
        """Ones and zeros."""
        statistics = self._at(metric, at)
        if ones:
            statistics.add(1, ones)
        if times > ones:
            statistics.add(0, times - ones)

    def _at(self, metric: Metric, now: float) -> Statistics:
        return self._series.setdefault(metric, Series()).at(now)
