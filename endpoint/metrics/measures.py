"""What has been measured: by the minute for each metric and variant, and lately for each model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from endpoint.errors import ApiError, ModelError
from endpoint.events import Event
from endpoint.invocation import Invocation
from endpoint.metrics import catalog
from endpoint.metrics.catalog import Metric
from endpoint.metrics.models import ModelTable
from endpoint.metrics.requests import Outcome, Requests
from endpoint.metrics.series import KEPT_SECONDS, MINUTE, Series
from endpoint.metrics.statistics import Statistics

__all__ = ["MINUTE", "Measures", "Of"]

_MICROSECONDS = 1e6
_OK, _FAULT = 200, 500

_OF_EVENTS = {
    "download": catalog.MODEL_DOWNLOADING_TIME,
    "load": catalog.MODEL_LOADING_TIME,
    "unload": catalog.MODEL_UNLOADING_TIME,
}


# Why models were unloaded, where that was for want of memory.
_FOR_ROOM = ("to make room", "memory is over")


@dataclass(frozen=True, slots=True)
class Of:
    """Whose values these are: the dimensions of a metric."""

    endpoint: str
    variant: str


class _Variant:
    """All that is measured of one variant."""

    def __init__(self, now: float) -> None:
        self.series: dict[Metric, Series] = {}
        self.requests = Requests(self.series, now)
        self.evictions = 0
        self._begun = now

    @property
    def latest(self) -> float:
        """When something of it was last told."""
        self.requests.settle()
        minutes = (next(reversed(list(series))) for series in self.series.values() if series)
        return max(minutes, default=self._begun)


class Measures:
    """All values of one process. Not shared between threads; ``clock`` is seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._variants: dict[tuple[str, str], _Variant] = {}
        self.models = ModelTable()

    # --- what is told ---------------------------------------------------------------------------

    def add(self, metric: Metric, of: Of, value: float) -> None:
        """A value, in the metric's unit, of this minute."""
        series = self._of(of.endpoint, of.variant).series
        series.setdefault(metric, Series()).at(self._clock()).add(value)

    def answered(
        self, invocation: Invocation, seconds: float, error: BaseException | None = None
    ) -> None:
        """A request is over, ``seconds`` after it came; ``error`` is what its client was told.

        CancelledError: it was told nothing, since it hung up. Only a request that reached a variant
        counts: not one for an endpoint that is not there, nor one that may not be made.
        """
        progress = invocation.progress
        if not progress.variant:
            return
        now = self._clock()
        outcome = Outcome(
            _OK if error is None else _status_of(error),
            isinstance(error, ModelError),
            progress.hit,
            progress.waited_seconds,
            progress.model_seconds,
            seconds,
            progress.serving,
        )
        self._of(invocation.endpoint, progress.variant).requests.add(outcome, now)
        if invocation.target_model is not None:
            key = (invocation.endpoint, progress.variant, invocation.target_model)
            self.models.add(key, outcome, now)

    def happened(self, event: Event) -> None:
        """An event: what is no request is measured by these."""
        metric = _OF_EVENTS.get(event.kind)
        if metric is not None and event.seconds is not None:
            of = Of(event.endpoint, event.variant)
            self.add(metric, of, event.seconds * _MICROSECONDS)
        if event.kind == "evict" or (event.kind == "unload" and event.text.startswith(_FOR_ROOM)):
            self._of(event.endpoint, event.variant).evictions += 1

    # --- what is asked --------------------------------------------------------------------------

    def series(self) -> Iterator[tuple[Metric, Of]]:
        """All that have values."""
        self._settle()
        for (endpoint, variant), measured in list(self._variants.items()):
            for metric, series in list(measured.series.items()):
                if series:
                    yield metric, Of(endpoint, variant)

    def minutes(self, metric: Metric, of: Of) -> Mapping[int, Statistics]:
        """By the second (since 1970) at which a minute begins; {} if there are none."""
        return self._series(metric, of) or {}

    def variants(self) -> list[Of]:
        """All variants of which something is known."""
        return [Of(*names) for names in self._variants]

    def whole(self, metric: Metric, of: Of) -> Statistics:
        """All values since this process began."""
        series = self._series(metric, of)
        return Statistics() if series is None else series.whole()

    def lately(self, metric: Metric, of: Of, minutes: int = 10) -> Statistics:
        """The values of so many minutes, this one included."""
        series = self._series(metric, of)
        return Statistics() if series is None else series.lately(self._clock(), minutes)

    def per_second(self, of: Of) -> float:
        """Requests, as a mean of the last minute."""
        measured = self._variants.get((of.endpoint, of.variant))
        return 0.0 if measured is None else measured.requests.per_second(self._clock())

    def evictions(self, of: Of) -> int:
        """Models that left a container's memory because it needed the room."""
        measured = self._variants.get((of.endpoint, of.variant))
        return 0 if measured is None else measured.evictions

    @property
    def now(self) -> float:
        """Seconds since 1970, by the clock that all this is measured by."""
        return self._clock()

    def _series(self, metric: Metric, of: Of) -> Series | None:
        measured = self._variants.get((of.endpoint, of.variant))
        if measured is None:
            return None
        measured.requests.settle()
        return measured.series.get(metric)

    def _settle(self) -> None:
        for measured in self._variants.values():
            measured.requests.settle()

    def _of(self, endpoint: str, variant: str) -> _Variant:
        measured = self._variants.get((endpoint, variant))
        if measured is None:
            self._forget_old()
            measured = self._variants[endpoint, variant] = _Variant(self._clock())
        return measured

    def _forget_old(self) -> None:
        """Variants that are gone: of which nothing has been told for as long as values are kept."""
        before = self._clock() - KEPT_SECONDS
        for names, measured in list(self._variants.items()):
            if measured.latest < before:
                del self._variants[names]


def _status_of(error: BaseException) -> int | None:
    """Of what a container said it is the container's own."""
    match error:
        case ModelError():
            return error.original_status
        case ApiError():
            return error.status
        case asyncio.CancelledError():
            return None
        case _:
            return _FAULT
