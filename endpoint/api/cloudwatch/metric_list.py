"""ListMetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from endpoint.api.cloudwatch import tokens
from endpoint.api.cloudwatch.lookup import dimensions_of
from endpoint.metrics.catalog import Metric
from endpoint.metrics.measures import Measures, Of

_PAGE = 500

# RecentlyActive knows one value, PT3H.
_RECENT_SECONDS = 3 * 60 * 60

_Key = tuple[str, str, str, str]


class MetricList:
    """The operation. ``account`` is whose metrics they are; ``clock`` is seconds since 1970."""

    def __init__(self, measures: Measures, account: str, clock: Callable[[], float]) -> None:
        self._measures = measures
        self._account = account
        self._clock = clock

    async def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of the metrics that have values. Raises InvalidNextToken."""
        end: _Key | None = tokens.end_of(request, _Key)
        found = sorted(
            _key(metric, of)
            for metric, of in self._measures.series()
            if self._fits(request, metric, of)
        )
        left = [key for key in found if end is None or key > end]
        shown, more = left[:_PAGE], left[_PAGE:]
        return {
            "Metrics": [_shown(key) for key in shown],
            **({"NextToken": tokens.token(request, shown[-1])} if more else {}),
        }

    def _fits(self, request: Mapping[str, Any], metric: Metric, of: Of) -> bool:
        if request.get("OwningAccount", self._account) != self._account:
            return False
        if request.get("Namespace", metric.namespace) != metric.namespace:
            return False
        if request.get("MetricName", metric.name) != metric.name:
            return False
        if not _has(dimensions_of(of), request.get("Dimensions", ())):
            return False
        return "RecentlyActive" not in request or self._is_recent(metric, of)

    def _is_recent(self, metric: Metric, of: Of) -> bool:
        minutes = self._measures.minutes(metric, of)
        return bool(minutes) and max(minutes) > self._clock() - _RECENT_SECONDS


def _has(dimensions: Mapping[str, str], wanted: Iterable[Mapping[str, str]]) -> bool:
    """Whether all that are wanted are there; one without a value may have any."""
    return all(
        name in dimensions and filter.get("Value", dimensions[name]) == dimensions[name]
        for filter in wanted
        for name in (filter["Name"],)
    )


def _key(metric: Metric, of: Of) -> _Key:
    return metric.namespace, metric.name, of.endpoint, of.variant


def _shown(key: _Key) -> dict[str, Any]:
    namespace, name, endpoint, variant = key
    dimensions = dimensions_of(Of(endpoint, variant))
    return {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
    }
