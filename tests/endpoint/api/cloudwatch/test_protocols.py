"""What goes over the wire: requests as other clients write them, and all that is no request."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import cbor2
import pytest

from tests.endpoint.api.cloudwatch.metrics import BEGIN, Metrics, dimensions, refused

CBOR = "/service/GraniteServiceVersion20100801/operation/"
NAMESPACE = "{http://monitoring.amazonaws.com/doc/2010-08-01/}"
LATENCY = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Period": 60}
BEGUN = int(BEGIN.timestamp())


def sent(
    metrics: Metrics, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", metrics.api.port, timeout=30)) as one:
        one.request("POST", path, body, headers)
        answer = one.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        assert len(found["x-amzn-requestid"]) == 36
        return answer.status, found, answer.read()


def by_cbor(metrics: Metrics, operation: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    headers = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
    status, found, answer = sent(metrics, CBOR + operation, body, headers)
    assert (found["smithy-protocol"], found["content-type"]) == ("rpc-v2-cbor", "application/cbor")
    return status, found, cbor2.loads(answer)


def by_json(metrics: Metrics, operation: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    target = f"GraniteServiceVersion20100801.{operation}"
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"}
    status, found, answer = sent(metrics, "/", body, headers)
    assert found["content-type"] == "application/x-amz-json-1.0"
    return status, found, json.loads(answer)


def by_query(metrics: Metrics, form: dict[str, Any] | bytes) -> tuple[int, ElementTree.Element]:
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    status, found, answer = sent(metrics, "/", body, headers)
    assert found["content-type"] == "text/xml"
    return status, ElementTree.fromstring(answer)


def error_of(status: int, root: ElementTree.Element) -> tuple[str, str]:
    """Code and message in an XML answer."""
    assert (status, root.tag) == (400, f"{NAMESPACE}ErrorResponse")
    found = {
        name: root.findtext(f"{NAMESPACE}Error/{NAMESPACE}{name}")
        for name in ("Type", "Code", "Message")
    }
    assert found["Type"] == "Sender"
    assert root.findtext(f"{NAMESPACE}RequestId")
    return str(found["Code"]), str(found["Message"])


def test_times_are_numbers_with_a_tag_in_cbor(metrics: Metrics) -> None:
    of = metrics.of({0: [1]})
    request = {
        **LATENCY,
        "Dimensions": dimensions(of),
        "StartTime": cbor2.CBORTag(1, float(BEGUN)),
        "EndTime": BEGUN + 60,
        "Statistics": ["Sum"],
    }
    status, _, answer = by_cbor(metrics, "GetMetricStatistics", cbor2.dumps(request))
    assert (status, answer["Datapoints"][0]["Timestamp"]) == (200, BEGIN)
    assert isinstance(answer["Datapoints"][0]["Sum"], float)


def test_times_are_numbers_in_json(metrics: Metrics) -> None:
    of = metrics.of({0: [1]})
    stat = {
        "Metric": {k: v for k, v in LATENCY.items() if k != "Period"}
        | {"Dimensions": dimensions(of)},
        "Period": 60,
        "Stat": "Sum",
    }
    request = {
        "MetricDataQueries": [{"Id": "q", "MetricStat": stat}],
        "StartTime": BEGUN,
        "EndTime": BEGUN + 60.5,
    }
    status, _, answer = by_json(metrics, "GetMetricData", json.dumps(request).encode())
    assert status == 200
    assert answer["MetricDataResults"][0]["Timestamps"] == [BEGUN]


@pytest.mark.parametrize(
    "time", ["2026-11-24T00:00:00Z", "2026-11-24T01:00:00+01:00", "2026-11-24T00:00:00.000"]
)
def test_the_form_of_old_clients(metrics: Metrics, time: str) -> None:
    of = metrics.of({0: [1, 2]})
    form = {
        "Action": "GetMetricStatistics",
        "Version": "2010-08-01",
        **LATENCY,
        "Dimensions.member.1.Name": "EndpointName",
        "Dimensions.member.1.Value": of.endpoint,
        "Dimensions.member.2.Name": "VariantName",
        "Dimensions.member.2.Value": of.variant,
        "StartTime": time,
        "EndTime": "2026-11-24T00:10:00Z",
        "Statistics.member.1": "Sum",
        "Statistics.member.2": "SampleCount",
    }
    status, root = by_query(metrics, form)
    assert (status, root.tag) == (200, f"{NAMESPACE}GetMetricStatisticsResponse")
    points = f"{NAMESPACE}GetMetricStatisticsResult/{NAMESPACE}Datapoints/{NAMESPACE}member"
    (point,) = root.findall(points)
    assert {child.tag.removeprefix(NAMESPACE): child.text for child in point} == {
        "Timestamp": "2026-11-24T00:00:00Z",
        "Sum": "3.0",
        "SampleCount": "2.0",
        "Unit": "Microseconds",
    }
    assert root.findtext(f"{NAMESPACE}ResponseMetadata/{NAMESPACE}RequestId")


def test_items_of_a_form_are_in_the_order_of_their_numbers(metrics: Metrics) -> None:
    form: dict[str, Any] = {
        "Action": "GetMetricData",
        "StartTime": "2026-11-24T00:00:00Z",
        "EndTime": "2026-11-24T00:10:00Z",
    }
    for number in (10, 9, 2, 1):
        query = f"MetricDataQueries.member.{number}"
        stat = f"{query}.MetricStat"
        form |= {f"{query}.Id": f"q{number}", f"{stat}.Stat": "Sum", f"{stat}.Period": 60}
        form |= {f"{stat}.Metric.Namespace": "n", f"{stat}.Metric.MetricName": "m"}
    _, root = by_query(metrics, form)
    assert [id.text for id in root.iter(f"{NAMESPACE}Id")] == ["q1", "q2", "q9", "q10"]


def test_errors_have_the_codes_of_the_query_protocol(metrics: Metrics) -> None:
    request = {**LATENCY, "Period": 90, "StartTime": 0, "EndTime": 60, "Statistics": ["Sum"]}
    for answered in (
        by_cbor(metrics, "GetMetricStatistics", cbor2.dumps(request)),
        by_json(metrics, "GetMetricStatistics", json.dumps(request).encode()),
    ):
        status, headers, content = answered
        assert status == 400
        assert headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"
        assert content["__type"] == "InvalidParameterValueException"
        assert content["message"].startswith("The parameter Period must be a multiple of 60")


def test_other_operations_are_refused_and_what_is_there_is_named(cloudwatch: Any) -> None:
    message = refused("InvalidAction", cloudwatch.put_metric_data, Namespace="n", MetricData=[])
    assert message == (
        "PutMetricData is not supported here. Of CloudWatch there are GetMetricData, "
        "GetMetricStatistics and ListMetrics."
    )


def test_operations_that_are_none(metrics: Metrics) -> None:
    _, _, content = by_cbor(metrics, "Nonsense", b"")
    assert content["message"].startswith("There is no operation 'Nonsense'. Of CloudWatch there")
    _, _, content = by_json(metrics, "", b"{}")
    assert content["__type"] == "UnknownOperationException"
    code, message = error_of(*by_query(metrics, {"Version": "2010-08-01"}))
    assert (code, message) == (
        "InvalidAction",
        "The form names no Action: it must be one of CloudWatch.",
    )
    assert error_of(*by_query(metrics, {"Action": "x\x00<"}))[0] == "InvalidAction"


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b"\xff", b"\xa1", b"\x01", b"\x80", b"\xf6", b"\x81" * 100_000),
        b"\xbb\x00\xff\xff\xff\xff\xff\xff\xff",  # more members than there are bytes
        b"\x7b\x00\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x62\xff\xff\x01",  # no text
        b"\xc1\xfb\x7f\xf8" + bytes(6),  # the time NaN
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that contains itself
        cbor2.dumps({"Dimensions": cbor2.CBORTag(1, 5)}),
        cbor2.dumps({"Dimensions": [1]}),
        cbor2.dumps({"MetricName": b"bytes"}),
        cbor2.dumps({"MetricName": 1 << 100}),
        cbor2.dumps({1: 2, "MetricName": ["list"]}),
        cbor2.dumps({"IncludeLinkedAccounts": "yes"}),
    ],
)
def test_what_is_no_request_in_cbor(metrics: Metrics, body: bytes) -> None:
    status, headers, content = by_cbor(metrics, "ListMetrics", body)
    assert (status, content["__type"]) == (400, "SerializationException")
    assert headers["x-amzn-query-error"] == "MalformedInput;Sender"
    assert content["message"]


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e300, "2026", True, None])
def test_times_that_are_none_in_cbor(metrics: Metrics, time: Any) -> None:
    request = {**LATENCY, "StartTime": time, "EndTime": 60, "Statistics": ["Sum"]}
    status, _, content = by_cbor(metrics, "GetMetricStatistics", cbor2.dumps(request))
    assert status == 400
    assert content["message"]


def test_no_body_is_a_request_without_members(metrics: Metrics) -> None:
    assert by_cbor(metrics, "ListMetrics", b"")[0] == 200
    assert by_json(metrics, "ListMetrics", b"")[0] == 200
    assert by_query(metrics, {"Action": "ListMetrics"})[0] == 200


@pytest.mark.parametrize("body", [b"no", b"{", b"\xff", b"[]", b"1", b'{"Dimensions": {}}'])
def test_what_is_no_request_in_json(metrics: Metrics, body: bytes) -> None:
    status, _, content = by_json(metrics, "ListMetrics", body)
    assert (status, content["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "form",
    [
        "Dimensions=x",
        "Dimensions.member=x",
        "Dimensions.member.1=x",
        "Dimensions.member.x.Name=n",
        "Dimensions.member.%D9%A1.Name=n",
        "Dimensions=&Dimensions.member.1.Name=n",
        "Dimensions.member.1.Name=n&Dimensions=",
        "MetricName.member.1=n",
        "IncludeLinkedAccounts=maybe",
        "MetricName=%ff",
    ],
)
def test_what_is_no_request_in_a_form(metrics: Metrics, form: str) -> None:
    code, message = error_of(*by_query(metrics, f"Action=ListMetrics&{form}".encode()))
    assert code == "MalformedInput"
    assert message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Period", "60.0"),
        ("Period", "x"),
        ("Period", "9" * 5000),
        ("StartTime", "yesterday"),
        ("StartTime", "0001-01-01T00:00:00+23:59"),
        ("StartTime", ""),
    ],
)
def test_values_of_a_form_have_types(metrics: Metrics, name: str, value: str) -> None:
    form = {"Action": "GetMetricStatistics", **LATENCY, "Statistics.member.1": "Sum", name: value}
    times = {"StartTime": "2026-11-24T00:00:00Z", "EndTime": "2026-11-24T01:00:00Z"}
    code, message = error_of(*by_query(metrics, {**times, **form}))
    assert code in ("MalformedInput", "InvalidParameterValue")
    assert name in message


def test_a_request_has_a_limit(metrics: Metrics) -> None:
    _, _, content = by_cbor(metrics, "ListMetrics", bytes((1 << 20) + 1))
    assert content["__type"] == "ValidationError"
    assert "larger than 1048576 bytes" in content["message"]


def test_a_form_that_is_deep_is_no_harm(metrics: Metrics) -> None:
    assert by_query(metrics, b"Action=ListMetrics&" + b"a." * 300_000 + b"b=1")[0] == 200


def test_other_services_are_told_apart(metrics: Metrics) -> None:
    headers = {"X-Amz-Target": "DynamoDB_20120810.ListTables"}
    status, found, _ = sent(metrics, "/", b"{}", headers)
    assert (status, found["content-type"]) == (400, "application/x-amz-json-1.1")
    status, _, _ = sent(metrics, "/service/Other/operation/ListMetrics", b"", {})
    assert status == 404
