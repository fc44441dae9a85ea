"""The tables of metrics, from what makes them."""

from __future__ import annotations

from prometheus_client.core import Metric as Family

from documentation.tables import code, table
from endpoint.metrics import model_lines
from endpoint.metrics.catalog import METRICS
from endpoint.metrics.measures import Measures
from endpoint.metrics.prometheus import families
from model_server import wire
from model_server.eviction_counts import EvictionCounts
from model_server.lifecycle import LoadCounts
from model_server.metrics import GatewayTotals, _Snapshot
from model_server.model_metrics import _VALUES

_HEAD = ("metric", "kind", "labels", "meaning")


def of_container() -> str:
    """What ``GET /metrics`` of a container tells; the first rows are of each model."""
    nothing = wire.MemoryInfo(policy="", thrashing=False, ledgers=[], models=[], shadows=[])
    snapshot = _Snapshot([], LoadCounts(), 0, {}, GatewayTotals(), nothing, EvictionCounts())
    rows = [(code(name), kind, "`model`", text) for name, kind, text, _ in _VALUES]
    rows.append(
        (code("modelyard_handler_seconds"), "histogram", "`model`", "Time in the model's code.")
    )
    return table(_HEAD, [*rows, *map(_row, snapshot.collect())])


def of_endpoint() -> str:
    """What ``GET /metrics`` of the endpoint tells; the last rows are of each model."""
    rows = [_row(family) for family in families(Measures(), ())]
    labels = ", ".join(map(code, model_lines.LABELS))
    rows += [(code(name), kind, labels, text) for name, kind, text in model_lines.METRICS]
    return table(_HEAD, rows)


def of_cloudwatch() -> str:
    """The metrics that have CloudWatch's names."""
    rows = [
        (code(metric.name), code(metric.namespace), metric.unit.value, metric.text)
        for metric in METRICS
    ]
    return table(("metric", "namespace", "unit", "meaning"), rows)


def _row(family: Family) -> tuple[str, str, str, str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(map(code, getattr(family, "_labelnames", ())))
    return code(name), family.type, labels, family.documentation
