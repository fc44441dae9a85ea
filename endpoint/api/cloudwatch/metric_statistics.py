"""GetMetricStatistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint.api.cloudwatch.lookup import metric_of, values_of
from endpoint.api.cloudwatch.span import MINUTE, Span, is_period, whole
from endpoint.api.cloudwatch.statistic import SIMPLE, TAKEN, Statistic, percentile
from endpoint.errors import InvalidParameterCombination, InvalidParameterValue, MissingParameter
from endpoint.metrics.measures import Measures

_NEEDED = ("Namespace", "MetricName", "StartTime", "EndTime", "Period")
_MOST_POINTS = 1440


def check_needed(request: Any) -> None:
    """Raise MissingParameter for a request that lacks one."""
    for name in _NEEDED:
        if isinstance(request, dict) and request.get(name) is None:
            raise MissingParameter(f"The parameter {name} is required.")


class MetricStatistics:
    """The operation."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    async def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """The statistics, the earliest period first.

        Raises InvalidParameterValue, InvalidParameterCombination.
        """
        statistics, percentiles = _wanted(request)
        span, period = _span(request)
        metric = metric_of(request["Namespace"], request["MetricName"])
        minutes = values_of(
            self._measures, metric, request.get("Dimensions", ()), request.get("Unit")
        )
        points = []
        for begin, parts in span.parts(minutes, period):
            assert metric is not None, "what has values has a name"
            values = whole(parts)
            point: dict[str, Any] = {
                "Timestamp": begin,
                **{name: of(values) for name, of in statistics.items()},
                "Unit": metric.unit.value,
            }
            if percentiles:
                point["ExtendedStatistics"] = {name: of(values) for name, of in percentiles.items()}
            points.append(point)
        return {"Label": request["MetricName"], "Datapoints": points}


def _wanted(request: Mapping[str, Any]) -> tuple[dict[str, Statistic], dict[str, Statistic]]:
    """Statistics and percentiles, one of the two."""
    names, extended = request.get("Statistics", ()), request.get("ExtendedStatistics", ())
    if names and extended:
        raise InvalidParameterCombination(
            "The parameters Statistics and ExtendedStatistics are mutually exclusive and you have "
            "specified both."
        )
    if not names and not extended:
        raise InvalidParameterCombination(
            "At least one of the parameters Statistics and ExtendedStatistics must be specified."
        )
    percentiles = {}
    for number, name in enumerate(extended, 1):
        of = percentile(name)
        if of is None:
            raise InvalidParameterValue(
                f"The value {name} for parameter ExtendedStatistics.member.{number} is not a valid "
                f"statistic. Here are {TAKEN}."
            )
        percentiles[name] = of
    return {name: SIMPLE[name] for name in names}, percentiles


def _span(request: Mapping[str, Any]) -> tuple[Span, int]:
    period = request["Period"]
    if not is_period(period):
        raise InvalidParameterValue(
            f"The parameter Period must be a multiple of {MINUTE}: values are kept by the minute."
        )
    span = Span.between(request["StartTime"], request["EndTime"], InvalidParameterValue)
    if span.count(period) > _MOST_POINTS:
        raise InvalidParameterCombination(
            f"You have requested up to {span.count(period)} datapoints, which exceeds the limit of "
            f"{_MOST_POINTS}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )
    return span, period
