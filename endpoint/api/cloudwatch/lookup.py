"""From namespace, name and dimensions to values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from endpoint.metrics.catalog import METRICS, Metric
from endpoint.metrics.measures import Measures, Of
from endpoint.metrics.statistics import Statistics

ENDPOINT, VARIANT = "EndpointName", "VariantName"

_METRICS = {(metric.namespace, metric.name): metric for metric in METRICS}


def metric_of(namespace: str, name: str) -> Metric | None:
    """None where there is none of that name."""
    return _METRICS.get((namespace, name))


def values_of(
    measures: Measures,
    metric: Metric | None,
    dimensions: Iterable[Mapping[str, Any]],
    unit: str | None,
) -> Mapping[int, Statistics]:
    """By the second (since 1970) at which a minute begins.

    {} for what has no values, as on the platform: an unknown metric, other dimensions than its
    own, all of them, or a unit that is not the metric's.
    """
    given = {dimension["Name"]: dimension["Value"] for dimension in dimensions}
    if metric is None or given.keys() != {ENDPOINT, VARIANT}:
        return {}
    if unit not in (None, metric.unit.value):
        return {}
    return measures.minutes(metric, Of(given[ENDPOINT], given[VARIANT]))


def dimensions_of(of: Of) -> dict[str, str]:
    """What a series is listed with."""
    return {ENDPOINT: of.endpoint, VARIANT: of.variant}
