"""A whole endpoint, and what boto3 finds of its requests in CloudWatch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.endpoint.user import until
from tests.endpoint.yard import Yard

DIMENSIONS = [
    {"Name": "EndpointName", "Value": "ep"},
    {"Name": "VariantName", "Value": "v"},
]


def test_invokes_are_found_in_cloudwatch(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz", says="hello")
        yard.endpoint()
        cloudwatch = yard.client("cloudwatch")
        assert cloudwatch.list_metrics(MetricName="Invocations")["Metrics"] == []
        begin = datetime.now(UTC) - timedelta(minutes=5)
        for _ in range(3):
            yard.invoke("m.tar.gz")

        def total(name: str, statistic: str) -> float:
            answer = cloudwatch.get_metric_statistics(
                Namespace="AWS/SageMaker",
                MetricName=name,
                Dimensions=DIMENSIONS,
                StartTime=begin,
                EndTime=datetime.now(UTC) + timedelta(minutes=5),
                Period=3600,
                Statistics=[statistic],
            )
            return float(sum(point[statistic] for point in answer["Datapoints"]))

        until(lambda: total("Invocations", "Sum") == 3)
        assert total("ModelCacheHit", "SampleCount") == 3
        assert total("ModelCacheHit", "Sum") == 2
        until(lambda: total("ModelLoadingTime", "SampleCount") == 1)
        found: dict[str, Any] = {
            metric["MetricName"]: metric["Dimensions"]
            for metric in cloudwatch.list_metrics(Dimensions=DIMENSIONS)["Metrics"]
        }
        assert {"Invocations", "ModelLatency", "ModelLoadingWaitTime"} <= found.keys()
        assert found["Invocations"] == DIMENSIONS
