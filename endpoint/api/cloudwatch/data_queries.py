"""The queries of GetMetricData: what each asks for, or all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from endpoint.api.cloudwatch.lookup import metric_of
from endpoint.api.cloudwatch.span import MINUTE, is_period
from endpoint.api.cloudwatch.statistic import TAKEN, Statistic, statistic
from endpoint.errors import ValidationError
from endpoint.metrics.catalog import Metric

_MOST = 500
_ID = "^[a-z][a-zA-Z0-9_]*$"
_MATCHES_ID = re.compile(_ID)

Dimensions = Iterable[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class DataQuery:
    """One query that is right; ``metric`` is None where there is none of that name."""

    id: str
    label: str
    account: str | None
    metric: Metric | None
    dimensions: Dimensions
    unit: str | None
    period: int
    statistic: Statistic


def checked(queries: list[dict[str, Any]]) -> list[DataQuery]:
    """Those whose values are wanted (ReturnData). Raises ValidationError with all that is wrong."""
    if not 0 < len(queries) <= _MOST:
        raise ValidationError(
            f"The collection MetricDataQueries must have a size of 1 to {_MOST}, not of "
            f"{len(queries)}."
        )
    faults = [
        fault
        for number, query in enumerate(queries, 1)
        for fault in _faults(query, f"MetricDataQueries.member.{number}")
    ]
    if len({query["Id"] for query in queries}) < len(queries):
        faults.append("The values for parameter Id in MetricDataQueries must be unique.")
    if faults:
        raise ValidationError("\n".join(faults))
    return [_query(query) for query in queries if query.get("ReturnData", True)]


def _faults(query: Mapping[str, Any], path: str) -> Iterator[str]:
    if _MATCHES_ID.fullmatch(query["Id"]) is None:
        yield (
            f"The value {query['Id']} for parameter {path}.Id is not matching the expected pattern "
            f"{_ID}."
        )
    if "Expression" in query:
        yield (
            f"The parameter {path}.Expression is not supported here: there is no metric math and "
            "no Metrics Insights. Give MetricStat, and compute with the values."
        )
    elif "MetricStat" not in query:
        yield f"The parameter {path}.MetricStat is required."
    else:
        yield from _faults_of_stat(query["MetricStat"], f"{path}.MetricStat")


def _faults_of_stat(stat: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in ("Namespace", "MetricName"):
        if name not in stat["Metric"]:
            yield f"The parameter {path}.Metric.{name} is required."
    if not is_period(stat["Period"]):
        yield (
            f"The value {stat['Period']} for parameter {path}.Period must be a multiple of "
            f"{MINUTE}: values are kept by the minute."
        )
    if statistic(stat["Stat"]) is None:
        yield (
            f"The value {stat['Stat']} for parameter {path}.Stat is not a valid statistic. Here "
            f"are {TAKEN}."
        )


def _query(query: Mapping[str, Any]) -> DataQuery:
    """Of a query without faults."""
    stat = query["MetricStat"]
    of = statistic(stat["Stat"])
    assert of is not None, "checked"
    metric = stat["Metric"]
    return DataQuery(
        id=query["Id"],
        label=query.get("Label", metric["MetricName"]),
        account=query.get("AccountId"),
        metric=metric_of(metric["Namespace"], metric["MetricName"]),
        dimensions=metric.get("Dimensions", ()),
        unit=stat.get("Unit"),
        period=stat["Period"],
        statistic=of,
    )
