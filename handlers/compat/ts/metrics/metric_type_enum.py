"""Kinds of metrics."""

from __future__ import annotations

import enum


class MetricTypes(enum.Enum):
    """What a metric's values mean."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
