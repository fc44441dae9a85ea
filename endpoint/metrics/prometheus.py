"""All metrics as Prometheus text, for ``GET /metrics``.

Names are CloudWatch's in snake case, with the unit. What is counted is a counter, and times are
histograms: unlike quantiles these can be added up, over variants and over any stretch of time. The
numbers are taken on the event loop, in milliseconds; text is made of them in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from endpoint.metrics import catalog, model_lines
from endpoint.metrics.catalog import INSTANCES_NAMESPACE, METRICS, Metric, Unit
from endpoint.metrics.measures import Measures, Of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "modelyard_endpoint_"
_OF = ("endpoint_name", "variant_name")
# Not "instance", which is Prometheus' own word for whom it asks.
_OF_INSTANCE = (*_OF, "instance_id")

# Microseconds, from a tenth of a millisecond to the minutes that a load may take. Of values up to
# 4 % below a bound some count as over it.
_BOUNDS = tuple(
    factor * power for power in (1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8) for factor in (1.0, 2.5, 5.0)
)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[0-9]+[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]+|[A-Z]+")
_UNITS = {Unit.MICROSECONDS: "_microseconds", Unit.PERCENT: "_percent", Unit.NONE: ""}


@dataclass(frozen=True, slots=True)
class InstanceNow:
    """An instance: its values of now by their metrics, and requests that it has."""

    of: Of
    id: str
    values: dict[Metric, float]
    requests: int


async def text(measures: Measures, instances: Sequence[InstanceNow], *, models: bool) -> bytes:
    """The whole page; with ``models``, the metrics of each of them too."""
    snap = _Snapshot(list(families(measures, instances)))
    rows = await model_lines.rows(measures.models) if models else []

    def write() -> bytes:
        lines = model_lines.lines(rows) if models else ()
        return _text(snap) + "".join(lines).encode(errors="replace")

    return await asyncio.to_thread(write)


def families(measures: Measures, instances: Sequence[InstanceNow]) -> Iterator[Family]:
    """All but what is of single models."""
    ofs = measures.variants()
    for metric in METRICS:
        if metric.namespace == INSTANCES_NAMESPACE:
            yield _gauge(metric, instances)
        elif metric.unit is Unit.MICROSECONDS:
            yield _histogram(metric, measures, ofs)
        else:
            totals = ((of, measures.whole(metric, of).total) for of in ofs)
            yield _counter(name_of(metric), _sentence(metric.text), totals)
    yield _counter(
        f"{_PREFIX}model_cache_miss", "Requests whose model was not in memory.", _misses(measures)
    )
    evicted = ((of, float(measures.evictions(of))) for of in ofs)
    yield _counter(f"{_PREFIX}evictions", "Models that left memory for want of it.", evicted)
    running = GaugeMetricFamily(
        f"{_PREFIX}requests", "Requests that an instance has now.", labels=_OF_INSTANCE
    )
    for one in instances:
        running.add_metric([one.of.endpoint, one.of.variant, one.id], one.requests)
    yield running


def name_of(metric: Metric) -> str:
    """A metric's name here; a counter has ``_total`` at its end, too."""
    return _PREFIX + "_".join(_WORDS.findall(metric.name)).lower() + _UNITS[metric.unit]


def _misses(measures: Measures) -> Iterator[tuple[Of, float]]:
    for of in measures.variants():
        hits = measures.whole(catalog.MODEL_CACHE_HIT, of)
        yield of, hits.count - hits.total


def _counter(name: str, text: str, totals: Iterable[tuple[Of, float]]) -> Family:
    family = CounterMetricFamily(name, text, labels=_OF)
    for of, total in totals:
        family.add_metric([of.endpoint, of.variant], total)
    return family


def _histogram(metric: Metric, measures: Measures, ofs: Iterable[Of]) -> Family:
    family = HistogramMetricFamily(name_of(metric), _sentence(metric.text), labels=_OF)
    for of in ofs:
        values = measures.whole(metric, of)
        counts = zip(map(str, _BOUNDS), values.up_to(_BOUNDS), strict=True)
        buckets = [*counts, ("+Inf", values.count)]
        family.add_metric([of.endpoint, of.variant], buckets, values.total)
    return family


def _gauge(metric: Metric, instances: Iterable[InstanceNow]) -> Family:
    family = GaugeMetricFamily(name_of(metric), _sentence(metric.text), labels=_OF_INSTANCE)
    for one in instances:
        if metric in one.values:
            family.add_metric([one.of.endpoint, one.of.variant, one.id], one.values[metric])
    return family


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


class _Snapshot(Collector):
    def __init__(self, taken: list[Family]) -> None:
        self._taken = taken

    def collect(self) -> Iterable[Family]:
        return self._taken


def _text(snap: _Snapshot) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(snap)
    return generate_latest(registry)
