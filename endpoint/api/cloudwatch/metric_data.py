"""GetMetricData."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from endpoint.api.cloudwatch import data_queries, tokens
from endpoint.api.cloudwatch.data_queries import DataQuery
from endpoint.api.cloudwatch.lookup import values_of
from endpoint.api.cloudwatch.span import Span, whole
from endpoint.errors import ValidationError
from endpoint.metrics.measures import Measures
from endpoint.metrics.statistics import Statistics

_MOST_POINTS = 100_800

# Other requests wait no longer than it takes to compute so many.
_AT_ONCE = 50

# Periods and what is in each, in the order in which they are sent.
_Parts = list[tuple[int, list[Statistics]]]

# Where a page begins: the number of a query, and the period after which it goes on with it.
_Place = tuple[int, int | None]


class MetricData:
    """The operation. ``account`` is whose metrics they are."""

    def __init__(self, measures: Measures, account: str) -> None:
        self._measures = measures
        self._account = account

    async def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of values, query by query; those that are not on it are on the next ones.

        Raises ValidationError, InvalidNextToken.
        """
        queries = data_queries.checked(request["MetricDataQueries"])
        span = Span.between(request["StartTime"], request["EndTime"], ValidationError)
        left = _most_points(request)
        descending = request.get("ScanBy") != "TimestampAscending"
        place: _Place = tokens.end_of(request, _Place) or (0, None)
        first, after = place
        results: list[dict[str, Any]] = []
        for number, query in enumerate(queries[first:], first):
            if not left:
                return _page(results, tokens.token(request, (number, None)))
            parts = self._parts(query, span, descending=descending)
            if after is not None and number == first:
                parts = [one for one in parts if (one[0] < after if descending else one[0] > after)]
            shown = parts[:left]
            complete = len(shown) == len(parts)
            results.append(await _result(query, shown, complete=complete))
            left -= len(shown)
            if not complete:
                return _page(results, tokens.token(request, (number, shown[-1][0])))
        return _page(results)

    def _parts(self, query: DataQuery, span: Span, *, descending: bool) -> _Parts:
        if query.account not in (None, self._account):
            return []
        minutes = values_of(self._measures, query.metric, query.dimensions, query.unit)
        parts = span.parts(minutes, query.period)
        return parts[::-1] if descending else parts


def _most_points(request: Mapping[str, Any]) -> int:
    most: int = request.get("MaxDatapoints", _MOST_POINTS)
    if not 0 < most <= _MOST_POINTS:
        raise ValidationError(
            f"The value {most} for parameter MaxDatapoints must be between 1 and {_MOST_POINTS}."
        )
    return most


async def _result(query: DataQuery, parts: _Parts, *, complete: bool) -> dict[str, Any]:
    values = []
    for number, (_, part) in enumerate(parts):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        values.append(query.statistic(whole(part)))
    return {
        "Id": query.id,
        "Label": query.label,
        "Timestamps": [begin for begin, _ in parts],
        "Values": values,
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _page(results: list[dict[str, Any]], token: str | None = None) -> dict[str, Any]:
    page: dict[str, Any] = {"MetricDataResults": results, "Messages": []}
    return page if token is None else {**page, "NextToken": token}
