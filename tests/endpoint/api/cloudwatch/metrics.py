"""Values for tests to ask for, at minutes of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint.metrics import catalog
from endpoint.metrics.catalog import Metric
from endpoint.metrics.measures import Of
from tests.endpoint.api.running import RunningApi

# The beginning of a day, and of the minutes of tests.
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)

_numbers = itertools.count()


def at(minutes: float) -> datetime:
    """So many minutes after the beginning."""
    return BEGIN + timedelta(minutes=minutes)


class Clock:
    """Stands where it was put."""

    def __init__(self) -> None:
        self.now = BEGIN.timestamp()

    def __call__(self) -> float:
        return self.now


class Metrics:
    """The server's values."""

    def __init__(self, api: RunningApi, clock: Clock) -> None:
        self.api = api
        self.url = api.url
        self.clock = clock

    def of(
        self,
        minutes: Mapping[int, Iterable[float]],
        metric: Metric = catalog.MODEL_LATENCY,
        endpoint: str | None = None,
    ) -> Of:
        """Add values, by the minute, of an endpoint that has none yet; returns whose they are."""
        of = Of(endpoint or f"endpoint-{next(_numbers)}", "v")
        self.api.call(lambda: self._add(minutes, metric, of))
        return of

    def _add(self, minutes: Mapping[int, Iterable[float]], metric: Metric, of: Of) -> None:
        for minute, values in sorted(minutes.items()):
            self.clock.now = at(minute).timestamp()
            for value in values:
                self.api.backend.measures.add(metric, of, value)


def dimensions(of: Of) -> list[dict[str, str]]:
    """As requests have them."""
    return [
        {"Name": "EndpointName", "Value": of.endpoint},
        {"Name": "VariantName", "Value": of.variant},
    ]


def query(of: Of, stat: str = "Sum", id: str = "q", period: int = 60, **more: Any) -> Any:
    """A query of GetMetricData for ModelLatency; ``more`` is of the query, or else ``metric``."""
    metric: dict[str, Any] = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency"}
    unit = {"Unit": more.pop("unit")} if "unit" in more else {}
    metric |= {"Dimensions": dimensions(of), **more.pop("metric", {})}
    return {
        "Id": id,
        "MetricStat": {"Metric": metric, "Period": period, "Stat": stat, **unit},
    } | more


def data(client: Any, *queries: Any, begin: float = 0, end: float = 60, **more: Any) -> Any:
    """GetMetricData."""
    times = {"StartTime": at(begin), "EndTime": at(end)}
    return client.get_metric_data(MetricDataQueries=queries, **{**times, **more})


def values(answer: Any) -> list[dict[datetime, float]]:
    """Of each result, in its order."""
    return [
        dict(zip(result["Timestamps"], result["Values"], strict=True))
        for result in answer["MetricDataResults"]
    ]


def statistics(client: Any, of: Of, *names: str, end: float = 60, **more: Any) -> Any:
    """GetMetricStatistics of ModelLatency, by the minute."""
    request = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": dimensions(of),
        "StartTime": BEGIN,
        "EndTime": at(end),
        "Period": 60,
        **({"Statistics": names} if names else {}),
        **more,
    }
    given = {name: value for name, value in request.items() if value is not None}
    return client.get_metric_statistics(**given)


def refused(code: str, call: Any, *arguments: Any, **more: Any) -> str:
    """The message of the error that a call ends with."""
    with pytest.raises(ClientError) as raised:
        call(*arguments, **more)
    answer = raised.value.response
    assert answer["Error"]["Code"] == code, answer["Error"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    return str(answer["Error"]["Message"])
