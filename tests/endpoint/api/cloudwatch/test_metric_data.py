"""GetMetricData with boto3, by each protocol."""

from __future__ import annotations

from typing import Any

import pytest

from endpoint.metrics import catalog
from endpoint.metrics.measures import Of
from tests.endpoint.api.cloudwatch.metrics import Metrics as M
from tests.endpoint.api.cloudwatch.metrics import at, data, query, refused, values

NOBODY = Of("nobody", "v")


def test_each_statistic_of_each_minute(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({0: [1.0, 2.5], 3: [4.0]})
    answer = data(
        cloudwatch,
        *(
            query(of, stat, stat.lower())
            for stat in ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
        ),
        ScanBy="TimestampAscending",
    )
    assert values(answer) == [
        {at(0): 2, at(3): 1},
        {at(0): 1.75, at(3): 4},
        {at(0): 3.5, at(3): 4},
        {at(0): 1, at(3): 4},
        {at(0): 2.5, at(3): 4},
    ]
    for result in answer["MetricDataResults"]:
        assert result["Label"] == "ModelLatency"
        assert result["StatusCode"] == "Complete"
        assert result["Timestamps"] == [at(0), at(3)]
    assert answer["MetricDataResults"][0]["Id"] == "samplecount"
    assert "NextToken" not in answer


def test_the_latest_comes_first_unless_asked_otherwise(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({0: [1], 1: [2]})
    (result,) = data(cloudwatch, query(of))["MetricDataResults"]
    assert result["Values"] == [2, 1]
    (result,) = data(cloudwatch, query(of), ScanBy="TimestampDescending")["MetricDataResults"]
    assert result["Timestamps"] == [at(1), at(0)]


@pytest.mark.parametrize(
    ("stat", "expected"), [("p0", 1), ("p50", 500), ("p99", 990), ("p99.9", 999), ("p100", 1000)]
)
def test_percentiles(metrics: M, client: Any, stat: str, expected: float) -> None:
    of = metrics.of({0: range(1, 501), 1: range(501, 1001)})
    (found,) = values(data(client, query(of, stat, period=120)))
    assert found == {at(0): pytest.approx(expected, rel=0.03)}


def test_periods_begin_at_the_start_time(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({0: [1], 1: [2], 2: [4], 3: [8], 7: [16]})
    (found,) = values(data(cloudwatch, query(of, period=180), begin=1.5))
    assert found == {at(1): 14, at(7): 16}
    (found,) = values(data(cloudwatch, query(of), begin=1, end=3))
    assert found == {at(1): 2, at(2): 4}, "EndTime is not part of it"
    (found,) = values(data(cloudwatch, query(of, period=86400), end=2.5))
    assert found == {at(0): 7}


def test_labels_units_and_what_is_not_returned(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    answer = data(
        cloudwatch,
        query(of, Label="Zeit \x01 <ä>", unit="Microseconds"),
        query(of, id="hidden", ReturnData=False),
        query(of, id="other_unit", unit="Seconds", ReturnData=True),
    )
    first, second = answer["MetricDataResults"]
    assert first["Label"] in ("Zeit \x01 <ä>", "Zeit \ufffd <ä>")  # XML has no \x01
    assert (first["Values"], second["Id"], second["Values"]) == ([1], "other_unit", [])


@pytest.mark.parametrize(
    "metric",
    [
        {"Namespace": "AWS/EC2"},
        {"MetricName": "Nonsense"},
        {"Namespace": "/aws/sagemaker/Endpoints"},
        {"Dimensions": []},
        {"Dimensions": [{"Name": "EndpointName", "Value": "ep"}]},
        {"Dimensions": [{"Name": "InstanceId", "Value": "i-1"}]},
    ],
)
def test_what_is_not_there_has_no_values(metrics: M, cloudwatch: Any, metric: Any) -> None:
    of = metrics.of({0: [1]})
    (result,) = data(cloudwatch, query(of, metric=metric))["MetricDataResults"]
    assert (result["Timestamps"], result["Values"]) == ([], [])
    assert result["StatusCode"] == "Complete"


def test_another_variant_or_account_has_no_values(metrics: M, client: Any) -> None:
    of = metrics.of({0: [1]})
    own, theirs, other = values(
        data(
            client,
            query(of, id="own", AccountId="000000000000"),
            query(of, id="theirs", AccountId="123456789012"),
            query(Of(of.endpoint, "other"), id="other"),
        )
    )
    assert (own, theirs, other) == ({at(0): 1}, {}, {})


def test_metrics_of_instances_are_in_their_namespace(metrics: M, client: Any) -> None:
    of = metrics.of({0: [3]}, catalog.LOADED_MODEL_COUNT)
    metric = {"Namespace": "/aws/sagemaker/Endpoints", "MetricName": "LoadedModelCount"}
    assert values(data(client, query(of, "Maximum", metric=metric))) == [{at(0): 3}]


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", ["TimestampDescending", "TimestampAscending"])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_pages_together_are_everything_once(metrics: M, client: Any, scan: str, size: int) -> None:
    one, other = metrics.of({n: [n + 1] for n in range(5)}), metrics.of({n: [n] for n in range(3)})
    queries = [query(one, id="a"), query(NOBODY, id="b"), query(other, id="c")]
    whole = data(client, *queries, ScanBy=scan)["MetricDataResults"]
    found: dict[str, Any] = {}
    token: dict[str, Any] = {}
    while True:
        answer = data(client, *queries, ScanBy=scan, MaxDatapoints=size, **token)
        assert sum(len(result["Values"]) for result in answer["MetricDataResults"]) <= size
        for result in answer["MetricDataResults"]:
            assert found.get(result["Id"], {}).get("StatusCode") != "Complete"
            times, points = result["Timestamps"], result["Values"]
            if result["Id"] in found:
                times = found[result["Id"]]["Timestamps"] + times
                points = found[result["Id"]]["Values"] + points
            found[result["Id"]] = {**result, "Timestamps": times, "Values": points}
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert list(found.values()) == whole


def test_values_that_come_between_two_pages_are_in_nobodys_way(metrics: M, client: Any) -> None:
    of = metrics.of({0: [1], 1: [2], 2: [3]})
    first = data(client, query(of), MaxDatapoints=1)
    metrics.of({3: [4]}, endpoint=of.endpoint)
    second = data(client, query(of), NextToken=first["NextToken"])
    assert values(first) + values(second) == [{at(2): 3}, {at(1): 2, at(0): 1}]


def test_the_paginator_of_boto3(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({n: [n] for n in range(6)})
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=[query(of)],
        StartTime=at(0),
        EndTime=at(60),
        PaginationConfig={"PageSize": 4},
    )
    assert [len(page["MetricDataResults"][0]["Values"]) for page in pages] == [4, 2]


@pytest.mark.parametrize("token", ["", "x", "W10=", "WyJ4IixbMCxudWxsXV0=", "é"])
def test_a_token_that_is_none(metrics: M, cloudwatch: Any, token: str) -> None:
    message = refused("InvalidNextToken", data, cloudwatch, query(NOBODY), NextToken=token)
    assert "NextToken" in message


def test_a_token_of_another_request(metrics: M, client: Any) -> None:
    of = metrics.of({0: [1], 1: [2]})
    token = data(client, query(of), MaxDatapoints=1)["NextToken"]
    for other in ({"end": 59}, {"ScanBy": "TimestampAscending"}):
        message = refused("InvalidNextToken", data, client, query(of), NextToken=token, **other)
        assert "of another request" in message


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"begin": 5, "end": 1}, "The parameter StartTime must be less than the parameter EndTime"),
        ({"begin": 5, "end": 5}, "The parameter StartTime must not equal parameter EndTime"),
        ({"StartTime": -5}, "The parameter StartTime must be between 1970 and"),
    ],
)
def test_times_that_are_wrong(cloudwatch: Any, times: Any, message: str) -> None:
    assert message in refused("ValidationError", data, cloudwatch, query(NOBODY), **times)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (query(NOBODY, period=90), "The value 90 for parameter MetricDataQueries.member.1.Metric"),
        (query(NOBODY, period=1), "must be a multiple of 60"),
        (query(NOBODY, "tm99"), "Stat is not a valid statistic. Here are SampleCount, Average"),
        (query(NOBODY, "average"), "The value average for parameter"),
        (query(NOBODY, "p101"), "The value p101 for parameter"),
        (query(NOBODY, "p99.99999999999"), "is not a valid statistic"),
        (query(NOBODY, ""), "is not a valid statistic"),
        (query(NOBODY, id="5xx"), "is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$"),
        (query(NOBODY, id="ä"), "MetricDataQueries.member.1.Id is not matching"),
        ({"Id": "q", "Expression": "m1+m2"}, "there is no metric math and no Metrics Insights"),
        ({"Id": "q"}, "The parameter MetricDataQueries.member.1.MetricStat is required"),
        (query(NOBODY, unit="Ells"), "Member must satisfy enum value set: [Seconds, Micro"),
        (query(NOBODY, metric={"Namespace": ":x"}), "regular expression pattern: [^:].*"),
    ],
)
def test_queries_that_are_wrong(cloudwatch: Any, wrong: Any, message: str) -> None:
    assert message in refused("ValidationError", data, cloudwatch, wrong)


def test_a_metric_without_a_name(cloudwatch: Any) -> None:
    stat = {"Metric": {"Dimensions": []}, "Period": 60, "Stat": "Sum"}
    message = refused("ValidationError", data, cloudwatch, {"Id": "q", "MetricStat": stat})
    assert message == (
        "The parameter MetricDataQueries.member.1.MetricStat.Metric.Namespace is required.\n"
        "The parameter MetricDataQueries.member.1.MetricStat.Metric.MetricName is required."
    )


def test_ids_must_differ(cloudwatch: Any) -> None:
    message = refused("ValidationError", data, cloudwatch, query(NOBODY), query(NOBODY))
    assert message == "The values for parameter Id in MetricDataQueries must be unique."


def test_500_queries_are_the_most(metrics: M, cloudwatch: Any) -> None:
    of = metrics.of({0: [1]})
    queries = [query(of, id=f"q{n}") for n in range(501)]
    assert len(data(cloudwatch, *queries[:500])["MetricDataResults"]) == 500
    message = refused("ValidationError", data, cloudwatch, *queries)
    assert "must have a size of 1 to 500, not of 501" in message
    assert "not of 0" in refused("ValidationError", data, cloudwatch)


@pytest.mark.parametrize("most", [0, -1, 100_801])
def test_how_many_datapoints_a_page_may_have(cloudwatch: Any, most: int) -> None:
    assert data(cloudwatch, query(NOBODY), MaxDatapoints=100_800)["MetricDataResults"]
    message = refused("ValidationError", data, cloudwatch, query(NOBODY), MaxDatapoints=most)
    assert "MaxDatapoints must be between 1 and 100800" in message
