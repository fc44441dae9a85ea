"""GetMetricStatistics with boto3, by each protocol."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint.metrics import catalog
from endpoint.metrics.measures import Of
from tests.endpoint.api.cloudwatch.metrics import Metrics, at, refused, statistics

NOBODY = Of("nobody", "v")


def test_statistics_come_together(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1, 2], 5: [3]})
    answer = statistics(
        cloudwatch, of, "SampleCount", "Average", "Sum", "Minimum", "Maximum", Period=300
    )
    assert answer["Label"] == "ModelLatency"
    first, second = answer["Datapoints"]
    assert first == {
        "Timestamp": at(0),
        "SampleCount": 2,
        "Average": 1.5,
        "Sum": 3,
        "Minimum": 1,
        "Maximum": 2,
        "Unit": "Microseconds",
    }
    assert (second["Timestamp"], second["Sum"]) == (at(5), 3)


def test_percentiles_stand_apart(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: range(1, 101)})
    (point,) = statistics(cloudwatch, of, ExtendedStatistics=["p50", "p99.9"])["Datapoints"]
    assert point.keys() == {"Timestamp", "Unit", "ExtendedStatistics"}
    assert point["ExtendedStatistics"] == {
        "p50": pytest.approx(50, rel=0.03),
        "p99.9": pytest.approx(100, rel=0.03),
    }


def test_a_unit_must_be_that_of_the_metric(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    assert len(statistics(cloudwatch, of, "Sum", Unit="Microseconds")["Datapoints"]) == 1
    assert statistics(cloudwatch, of, "Sum", Unit="Seconds")["Datapoints"] == []


def test_metrics_without_a_unit_say_none(metrics: Metrics, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]}, catalog.MODEL_CACHE_HIT)
    answer = statistics(cloudwatch, of, "Average", MetricName="ModelCacheHit", Unit="None")
    assert [point["Unit"] for point in answer["Datapoints"]] == ["None"]


@pytest.mark.parametrize("more", [{"Dimensions": []}, {"MetricName": "Nonsense"}])
def test_what_is_not_there_has_no_points(metrics: Metrics, cloudwatch: Any, more: Any) -> None:
    of = metrics.of({0: [1]})
    answer = statistics(cloudwatch, of, "Sum", **more)
    assert answer["Datapoints"] == []
    assert answer["Label"] == more.get("MetricName", "ModelLatency")


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        ("InvalidParameterValue", {"EndTime": at(-1)}, "StartTime must be less than the parameter"),
        ("InvalidParameterValue", {"EndTime": at(0)}, "StartTime must not equal parameter EndTime"),
        ("InvalidParameterValue", {"Period": 90}, "Period must be a multiple of 60"),
        ("InvalidParameterValue", {"Period": 0}, "greater than or equal to 1"),
        ("InvalidParameterValue", {"Statistics": ["Median"]}, "[SampleCount, Average, Sum, Min"),
        ("InvalidParameterValue", {"Namespace": ":x"}, "expression pattern: [^:].*"),
        ("InvalidParameterValue", {"Namespace": "x" * 256}, "less than or equal to 255"),
        ("InvalidParameterValue", {"Unit": "Ells"}, "Value 'Ells' at 'unit' failed to satisfy"),
        (
            "InvalidParameterCombination",
            {"ExtendedStatistics": ["p50"]},
            "Statistics and ExtendedStatistics are mutually exclusive",
        ),
        (
            "InvalidParameterCombination",
            {"EndTime": at(1441)},
            "You have requested up to 1441 datapoints, which exceeds the limit of 1440.",
        ),
    ],
)
def test_what_is_refused(cloudwatch: Any, code: str, more: Any, message: str) -> None:
    assert message in refused(
        code, statistics, cloudwatch, NOBODY, **{"Statistics": ["Sum"], **more}
    )


def test_as_many_points_as_may_be(metrics: Metrics, client: Any) -> None:
    of = metrics.of({minute: [minute] for minute in range(1440)})
    assert len(statistics(client, of, "Sum", end=1440)["Datapoints"]) == 1440


def test_no_statistic_at_all(cloudwatch: Any) -> None:
    message = refused("InvalidParameterCombination", statistics, cloudwatch, NOBODY)
    assert message.startswith("At least one of the parameters Statistics and ExtendedStatistics")


@pytest.mark.parametrize("name", ["Sum", "p", "p100.1", "p-1", "p1e1", "p٣", "TM(10%:90%)"])
def test_what_is_no_percentile(cloudwatch: Any, name: str) -> None:
    message = refused(
        "InvalidParameterValue", statistics, cloudwatch, NOBODY, ExtendedStatistics=["p1", name]
    )
    assert f"The value {name} for parameter ExtendedStatistics.member.2 is not a valid" in message


@pytest.mark.parametrize("name", ["Namespace", "MetricName", "StartTime", "EndTime", "Period"])
def test_what_is_missing(cloudwatch: Any, name: str) -> None:
    message = refused("MissingParameter", statistics, cloudwatch, NOBODY, "Sum", **{name: None})
    assert message == f"The parameter {name} is required."


def test_its_errors_have_boto3s_classes(cloudwatch: Any) -> None:
    with pytest.raises(cloudwatch.exceptions.InvalidParameterValueException):
        statistics(cloudwatch, NOBODY, "Sum", Period=90)
    with pytest.raises(cloudwatch.exceptions.InvalidParameterCombinationException):
        statistics(cloudwatch, NOBODY)
