"""GetMetricData."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from endpoint.api.cloudwatch import data_queries, tokens
from endpoint.api.cloudwatch.lookup import metric_of, values_of
from endpoint.api.cloudwatch.span import Span, whole
from endpoint.api.cloudwatch.statistic import Statistic, statistic
from endpoint.errors import InvalidNextToken, ValidationError
from endpoint.metrics.measures import Measures
from endpoint.metrics.statistics import Statistics

_MOST_POINTS = 100_800

# Requests in between wait no longer than it takes to compute so many.
_AT_ONCE = 200

# The number of a query, and the time of the last point of it that was sent.
_End = tuple[int, int]

_Parts = list[tuple[int, list[Statistics]]]


class MetricData:
    """The operation. ``account`` is whose metrics they are."""

    def __init__(self, measures: Measures, account: str) -> None:
        self._measures = measures
        self._account = account

    async def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of values, query by query; queries that it does not reach are on the next ones.

        Raises ValidationError, InvalidNextToken.
        """
        queries = data_queries.checked(request)
        span = Span.between(request["StartTime"], request["EndTime"], ValidationError)
        end = tokens.end_of(request, _End)
        descending = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        left = _most_points(request)
        first = 0 if end is None else end[0]
        if first >= len(queries):
            raise InvalidNextToken("The NextToken is not one of this endpoint.")
        results = []
        for number, query in enumerate(queries[first:], first):
            parts = self._parts(query, span, descending)
            if end is not None and number == first:
                parts = [(t, p) for t, p in parts if (t < end[1] if descending else t > end[1])]
            shown, more = parts[:left], parts[left:]
            if not shown and more:  # the page is full
                last = results[-1]["Timestamps"][-1]
                return 
            results.append(await _result(query, shown, complete=not more))
            left -= len(shown)
            if more:
                token = tokens.token(request, (number, shown[-1][0]))
                return {"MetricDataResults": results, "Messages": [], "NextToken": token}
        return {"MetricDataResults": results, "Messages": []}
