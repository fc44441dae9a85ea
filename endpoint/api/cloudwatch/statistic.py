"""Names of statistics: those that every metric has, and percentiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from endpoint.metrics.statistics import Statistics

Statistic = Callable[[Statistics], float]

SIMPLE: Mapping[str, Statistic] = {
    "SampleCount": lambda values: float(values.count),
    "Average": lambda values: values.mean,
    "Sum": lambda values: float(values.total),
    "Minimum": lambda values: float(values.least),
    "Maximum": lambda values: float(values.most),
}
TAKEN = f"{', '.join(SIMPLE)} and percentiles such as p50, p99 or p99.9"

_PERCENTILE = re.compile(r"p((?:100(?:\.0{1,10})?)|(?:[0-9]{1,2}(?:\.[0-9]{1,10})?))")


def statistic(name: str) -> Statistic | None:
    """What it is of values, of which there must be one at least; None for a name that is none."""
    return SIMPLE.get(name) or percentile(name)


def percentile(name: str) -> Statistic | None:
    """As ``statistic``, for percentiles only."""
    found = _PERCENTILE.fullmatch(name)
    if found is None:
        return None
    share = float(found[1]) / 100
    return lambda values: float(values.quantile(share))
