"""The metrics of memory: ledgers, evictions, returns, predictions, shadow policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from model_server import wire
from model_server.eviction_counts import EvictionCounts, Histogram, Predictions
from model_server.stats import BUCKET_SECONDS

_BOUNDS = [*(str(seconds) for seconds in BUCKET_SECONDS), "+Inf"]


def histogram(buckets: Sequence[int], total: float) -> tuple[list[tuple[str, float]], float]:
    """What a histogram family takes: counts up to each bound, and the sum of all values."""
    running, pairs = 0, []
    for bound, count in zip(_BOUNDS, buckets, strict=True):
        running += count
        pairs.append((bound, float(running)))
    return pairs, total


def memory_metrics(memory: wire.MemoryInfo, counts: EvictionCounts) -> Iterator[Metric]:
    """All of them."""
    for name, text, value in _LEDGER_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["ledger"])
        for ledger in memory.ledgers:
            gauge.add_metric([ledger.name], value(ledger))
        yield gauge
    yield GaugeMetricFamily(
        "modelyard_memory_thrashing",
        "1 while models come and go too often.",
        value=int(memory.thrashing),
    )
    yield from _evictions(counts)
    yield from _returns(counts)
    yield from _predictions(counts)
    yield from _shadows(memory)


def _evictions(counts: EvictionCounts) -> Iterator[Metric]:
    labels = ["policy", "move", "ledger"]
    yield _counter("modelyard_evictions", "Models sent away.", labels, counts.evictions.items())
    freed = counts.freed_bytes.items()
    yield _counter("modelyard_evicted_bytes", "Memory that gave back.", labels, freed)
    refused = [([cause], count) for cause, count in counts.refusals.items()]
    yield _counter("modelyard_memory_refusals", "Wants of room refused.", ["cause"], refused)
    stops = [([reason], count) for reason, count in counts.stops.items()]
    yield _counter("modelyard_memory_stops", "Processes ended for their memory.", ["reason"], stops)


def _returns(counts: EvictionCounts) -> Iterator[Metric]:
    returns = [([tier], seconds) for tier, seconds in counts.returns.items()]
    yield _histogram("modelyard_reload_seconds", "Evicted models' returns.", ["tier"], returns)
    waits = [("", counts.waits)]
    yield _histogram("modelyard_memory_wait_seconds", "Waits for room.", [], waits)


def _predictions(counts: EvictionCounts) -> Iterator[Metric]:
    for name, text, value in _PREDICTION_COUNTERS:
        values = [([ledger], value(each)) for ledger, each in counts.predictions.items()]
        yield _counter(name, text, ["ledger"], values)


def _shadows(memory: wire.MemoryInfo) -> Iterator[Metric]:
    for name, text, value in _SHADOW_COUNTERS:
        values = [([shadow.policy], value(shadow)) for shadow in memory.shadows]
        yield _counter(name, text, ["policy"], values)


def _counter(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    counter = CounterMetricFamily(name, text, labels=labels)
    for of, value in values:
        counter.add_metric(of, value)
    return counter


def _histogram(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for of, each in values:
        family.add_metric(of, *histogram(each.buckets, each.seconds))
    return family


_LEDGER_GAUGES: tuple[tuple[str, str, Callable[[wire.LedgerInfo], float]], ...] = (
    (
        "modelyard_memory_limit_bytes",
        "Memory for models and server.",
        lambda ledger: ledger.limit_bytes,
    ),
    ("modelyard_memory_held_bytes", "Memory that models hold.", lambda ledger: ledger.held_bytes),
    (
        "modelyard_memory_leaving_bytes",
        "Memory of models on their way out.",
        lambda ledger: ledger.leaving_bytes,
    ),
    (
        "modelyard_memory_server_bytes",
        "Memory of the server; on a GPU, of others.",
        lambda ledger: ledger.overhead_bytes,
    ),
    (
        "modelyard_memory_free_bytes",
        "Memory for further models; below 0: too full.",
        lambda ledger: ledger.free_bytes,
    ),
)
_PREDICTION_COUNTERS: tuple[tuple[str, str, Callable[[Predictions], float]], ...] = (
    ("modelyard_predictions", "Loads whose size was predicted.", lambda each: each.count),
    (
        "modelyard_prediction_error_bytes",
        "By how much predictions were wrong, up or down.",
        lambda each: each.error_bytes,
    ),
    (
        "modelyard_predicted_models_bytes",
        "What these models were measured to take.",
        lambda each: each.measured_bytes,
    ),
)
_SHADOW_COUNTERS: tuple[tuple[str, str, Callable[[wire.ShadowInfo], float]], ...] = (
    (
        "modelyard_shadow_hits",
        "Uses that would have found the model.",
        lambda shadow: shadow.hits,
    ),
    (
        "modelyard_shadow_misses",
        "Uses that would have waited for a load.",
        lambda shadow: shadow.misses,
    ),
    (
        "modelyard_shadow_reload_seconds",
        "What these loads would have taken.",
        lambda shadow: shadow.reload_seconds,
    ),
)
