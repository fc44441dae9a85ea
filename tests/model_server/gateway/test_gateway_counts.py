"""What a gateway counts and logs."""

from __future__ import annotations

import logging

import pytest

from model_server.gateway.gateway_counts import Counts
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.stats import BUCKET_SECONDS


def request(path: str = "/ping") -> HttpRequest:
    return HttpRequest("GET", path, "", [])


def test_requests_are_counted_by_route_and_status_and_only_once() -> None:
    counts = Counts("none")
    for status in (200, 200, 404):
        counts.done(request(), HttpResponse(status, route="/ping"), 0.5)
    report = counts.take(77, 3, 0)
    assert (report.pid, report.in_flight) == (77, 3)
    assert {(route, status): count for route, status, count, _, _ in report.served} == {
        ("/ping", 200): 2,
        ("/ping", 404): 1,
    }
    assert [seconds for _, _, _, seconds, _ in report.served] == [1.0, 0.5]
    assert counts.take(77, 3, 0).served == []


def test_each_duration_falls_into_one_bucket() -> None:
    counts = Counts("none")
    durations = [0.0, *BUCKET_SECONDS, 1000.0]
    for seconds in durations:
        counts.done(request(), HttpResponse(200), seconds)
    ((_, _, count, _, buckets),) = counts.take(1, 0, 0).served
    assert count == sum(buckets) == len(durations)
    assert buckets[0] == 2 and buckets[-1] == 1


def test_what_has_no_route_is_counted_as_other() -> None:
    counts = Counts("none")
    counts.done(None, HttpResponse(400), 0.0)
    assert counts.take(1, 0, 0).served[0][:2] == ("other", 400)


@pytest.mark.parametrize(
    ("access_log", "logged"), [("all", [200, 404, 500]), ("errors", [404, 500]), ("none", [])]
)
def test_the_access_log_has_what_was_asked_for(
    access_log: str, logged: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counts = Counts(access_log)
    for status in (200, 404, 500):
        counts.done(request(), HttpResponse(status, body=b"x" * 7, request_id="id-7"), 0.25)
    counts.write_log()
    counts.write_log()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"GET /ping {status} 7 bytes 250.0 ms" for status in logged]
    assert all(vars(record)["request_id"] == "id-7" for record in caplog.records)


def test_a_request_that_could_not_be_read_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = Counts("all")
    counts.done(None, HttpResponse(400), 0.0)
    counts.write_log()
    assert caplog.records[0].getMessage().startswith("? ? 400")


def test_long_paths_and_floods_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = Counts("all")
    for _ in range(10_100):
        counts.done(request("/" + "x" * 5000), HttpResponse(200), 0.0)
    counts.write_log()
    assert len(caplog.records) == 10_000
    assert len(caplog.records[0].getMessage()) < 300
