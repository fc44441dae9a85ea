"""Everything counted, as Prometheus text. Numbers are taken on the loop, formatted in a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from model_server import wire
from model_server.eviction_counts import EvictionCounts
from model_server.lifecycle import Lifecycle, LoadCounts
from model_server.memory_metrics import histogram, memory_metrics
from model_server.model_metrics import ModelNumbers, model_lines, numbers_of
from model_server.processes.zygotes import ZygotePool
from model_server.stats import BUCKETS


@dataclass
class GatewayTotals:
    """What all gateways have served, gathered from their reports."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, list[int]] = field(default_factory=dict)
    in_flight: dict[int, int] = field(default_factory=dict)

    def add(self, report: wire.GatewayCounts) -> None:
        """Add one report."""
        self.in_flight[report.pid] = report.in_flight
        for route, status, count, seconds, buckets in report.served:
            key = (route, status)
            self.requests[key] = self.requests.get(key, 0) + count
            self.seconds[route] = self.seconds.get(route, 0.0) + seconds
            totals = self.buckets.setdefault(route, [0] * BUCKETS)
            for index, number in enumerate(buckets):
                totals[index] += number


def snapshot(
    lifecycle: Lifecycle,
    restarts: int,
    zygotes: ZygotePool,
    gateways: GatewayTotals,
    waiting: dict[int, int],
    memory: wire.MemoryInfo,
    evictions: EvictionCounts,
) -> Callable[[], str]:
    """Take all numbers now; the result formats them, in whatever thread.

    ``waiting`` is what ``waiting_connections`` found. Of ``memory``, the models are not looked at.
    """
    models = [numbers_of(model, waiting) for model in lifecycle.models.values()]
    snap = _Snapshot(
        models,
        copy(lifecycle.counts),
        restarts,
        zygotes.warm_bytes,
        deepcopy(gateways),
        memory,
        deepcopy(evictions),
    )
    return lambda: _render(snap)


def _render(snap: _Snapshot) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(snap)
    return generate_latest(registry).decode() + "".join(model_lines(snap.models))


@dataclass(frozen=True, eq=False)
class _Snapshot(Collector):
    models: list[ModelNumbers]
    counts: LoadCounts
    restarts: int
    zygotes: dict[str, int]
    gateways: GatewayTotals
    memory: wire.MemoryInfo
    evictions: EvictionCounts

    def collect(self) -> Iterator[Metric]:
        yield from self._server()
        yield from memory_metrics(self.memory, self.evictions)
        yield from self._http()
        yield from self._states()

    def _server(self) -> Iterator[Metric]:
        counts = self.counts
        for name, text, value in (
            ("modelyard_loads", "Models loaded.", counts.loads),
            ("modelyard_load_failures", "Loads that failed.", counts.failures),
            ("modelyard_load_seconds", "Time spent in loads that succeeded.", counts.load_seconds),
            ("modelyard_unloads", "Models unloaded.", counts.unloads),
            ("modelyard_restarts", "Worker processes replaced after a death.", self.restarts),
        ):
            yield CounterMetricFamily(name, text, value=value)
        zygotes = GaugeMetricFamily(
            "modelyard_zygote_bytes", "Private memory of a warm zygote.", labels=["framework"]
        )
        for framework, size in self.zygotes.items():
            zygotes.add_metric([framework], size)
        yield zygotes

    def _http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "modelyard_http_requests", "HTTP requests answered.", labels=["route", "status"]
        )
        for (route, status), count in self.gateways.requests.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        latency = HistogramMetricFamily(
            "modelyard_http_request_seconds", "From request to answer.", labels=["route"]
        )
        for route, buckets in self.gateways.buckets.items():
            latency.add_metric([route], *histogram(buckets, self.gateways.seconds[route]))
        yield latency
        yield GaugeMetricFamily(
            "modelyard_http_in_flight",
            "HTTP requests being answered.",
            value=sum(self.gateways.in_flight.values()),
        )

    def _states(self) -> Iterator[Metric]:
        by_state = Counter(model.state for model in self.models)
        loaded = GaugeMetricFamily("modelyard_models", "Models by state.", labels=["state"])
        for state, count in sorted(by_state.items()):
            loaded.add_metric([state], count)
        yield loaded
