"""The metrics of a variant for people: the parts of ``GET /status`` with figures in them."""

from __future__ import annotations

import asyncio
from typing import Any

from endpoint.metrics import catalog
from endpoint.metrics.measures import Measures, Of
from endpoint.metrics.models import ModelFigures
from endpoint.metrics.statistics import Statistics

_AT_ONCE = 100  # models

# A row of a model that nobody invokes is made anew after this, as what it tells is of the last
# minutes. The page asks twice a second, for thousands of models.
_ROW_SECONDS = 30.0

_MILLISECONDS = 1e3
_MILLISECONDS_OF_MICROSECONDS = 1e-3


def of_variant(measures: Measures, of: Of) -> dict[str, Any]:
    """Counts since this process began, and milliseconds of the last ten minutes."""

    def count(*metrics: catalog.Metric) -> int:
        return round(sum(measures.whole(metric, of).total for metric in metrics))

    def lately(metric: catalog.Metric) -> dict[str, float] | None:
        return _described(measures.lately(metric, of), _MILLISECONDS_OF_MICROSECONDS)

    hits = measures.whole(catalog.MODEL_CACHE_HIT, of)
    return {
        "invocations": count(catalog.INVOCATIONS),
        "errors": count(catalog.INVOCATION_4XX_ERRORS, catalog.INVOCATION_5XX_ERRORS),
        "model_errors": count(catalog.INVOCATION_MODEL_ERRORS),
        "cold_starts": round(hits.count - hits.total),
        "evictions": measures.evictions(of),
        "invocations_per_second": measures.per_second(of),
        "model_latency_ms": lately(catalog.MODEL_LATENCY),
        "overhead_latency_ms": lately(catalog.OVERHEAD_LATENCY),
        "loading_wait_ms": lately(catalog.MODEL_LOADING_WAIT_TIME),
    }


async def of_models(measures: Measures, of: Of) -> dict[str, dict[str, Any]]:
    """The same for each model of a variant that has been invoked, by its name.

    Requests are served in between: with thousands of models it takes a while.
    """
    now = measures.now
    rows = {}
    for target, figures in measures.models.of(of.endpoint, of.variant).items():
        rows[target] = of_model(figures, now)
        if len(rows) % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return rows


def of_model(figures: ModelFigures, now: float) -> dict[str, Any]:
    """One model's row, which is not to be changed. ``now`` is seconds since 1970."""
    if figures.row is None or not figures.row_at <= now < figures.row_at + _ROW_SECONDS:
        figures.row, figures.row_at = _row(figures, now), now
    return figures.row


def _row(figures: ModelFigures, now: float) -> dict[str, Any]:
    return {
        "invocations": figures.invocations,
        "errors": figures.errors,
        "cold_starts": figures.cold_starts,
        "latency_ms": _described(figures.latency.values(now), _MILLISECONDS),
        "loading_wait_ms": _described(figures.wait.values(now), _MILLISECONDS),
        "last_invoked": figures.last_invoked,
    }


def _described(values: Statistics, factor: float) -> dict[str, float] | None:
    """None for none."""
    if not values.count:
        return None
    half, nearly_all = values.quantiles(0.5, 0.99)
    return {
        "mean": values.mean * factor,
        "p50": half * factor,
        "p99": nearly_all * factor,
    }
