"""ListMetrics with boto3, by each protocol."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint.metrics import catalog
from tests.endpoint.api.cloudwatch.metrics import Metrics, at, dimensions, refused


def listed(client: Any, endpoint: str, **more: Any) -> list[Any]:
    """The names of an endpoint's metrics."""
    filters = [{"Name": "EndpointName", "Value": endpoint}, *more.pop("Dimensions", [])]
    answer = client.list_metrics(Dimensions=filters, **more)
    return [metric["MetricName"] for metric in answer["Metrics"]]


def test_metrics_that_have_values_are_listed(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    metrics.of({0: [1]}, catalog.LOADED_MODEL_COUNT, of.endpoint)
    answer = cloudwatch.list_metrics(Dimensions=dimensions(of))
    assert answer["Metrics"] == [
        {
            "Namespace": "/aws/sagemaker/Endpoints",
            "MetricName": "LoadedModelCount",
            "Dimensions": dimensions(of),
        },
        {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ModelLatency",
            "Dimensions": dimensions(of),
        },
    ]


def test_filters(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    metrics.of({0: [1]}, catalog.LOADED_MODEL_COUNT, of.endpoint)
    name = of.endpoint
    assert listed(cloudwatch, name, MetricName="ModelLatency") == ["ModelLatency"]
    assert listed(cloudwatch, name, Namespace="AWS/SageMaker") == ["ModelLatency"]
    assert listed(cloudwatch, name, Namespace="AWS/EC2") == []
    assert len(listed(cloudwatch, name, Dimensions=[{"Name": "VariantName"}])) == 2
    assert listed(cloudwatch, name, Dimensions=[{"Name": "VariantName", "Value": "x"}]) == []
    assert listed(cloudwatch, name, Dimensions=[{"Name": "InstanceId"}]) == []
    assert listed(cloudwatch, name, OwningAccount="123456789012") == []
    assert len(listed(cloudwatch, name, IncludeLinkedAccounts=True)) == 2


def test_recently_active_are_those_of_three_hours(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    metrics.of({10: [1]}, catalog.MODEL_CACHE_HIT, of.endpoint)
    metrics.clock.now = at(185).timestamp()
    assert listed(cloudwatch, of.endpoint, RecentlyActive="PT3H") == ["ModelCacheHit"]
    assert len(listed(cloudwatch, of.endpoint)) == 2


def test_pages_have_500(metrics: Metrics, cloudwatch: Any) -> None:
    for number in range(501):
        metrics.of({0: [1]}, catalog.OVERHEAD_LATENCY, f"many-{number:03}")
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(MetricName="OverheadLatency"))
    assert [len(page["Metrics"]) for page in pages] == [500, 1]
    found = [metric["Dimensions"][0]["Value"] for page in pages for metric in page["Metrics"]]
    assert found == [f"many-{number:03}" for number in range(501)]
    token = pages[0]["NextToken"]
    assert "of another request" in refused(
        "InvalidNextToken", cloudwatch.list_metrics, NextToken=token
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"RecentlyActive": "PT1H"}, "Member must satisfy enum value set: [PT3H]"),
        ({"Dimensions": [{"Name": "d"}] * 11}, "length less than or equal to 10"),
        ({"MetricName": "x" * 256}, "length less than or equal to 255"),
    ],
)
def test_what_is_refused(cloudwatch: Any, more: Any, message: str) -> None:
    assert message in refused("InvalidParameterValue", cloudwatch.list_metrics, **more)


def test_a_token_that_is_none(cloudwatch: Any) -> None:
    message = refused("InvalidNextToken", cloudwatch.list_metrics, NextToken="x")
    assert message == "The NextToken is not one of this endpoint."
