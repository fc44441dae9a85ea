from __future__ import annotations

import json
import logging

import pytest

from handlers.interfaces.context import Context
from handlers.types import Headers, Request


@pytest.fixture
def context() -> Context:
    return Context(model_name="m", model_dir="/models/m", manifest={"a": 1}, gpu_id=2)


def test_it_tells_about_the_server_and_the_model(context: Context) -> None:
    assert context.model_name == "m"
    assert context.manifest == {"a": 1}
    properties = context.system_properties
    assert (properties["model_dir"], properties["gpu_id"]) == ("/models/m", 2)
    assert properties["batch_size"] == 1
    assert {"server_name", "server_version"} <= set(properties)


def test_at_load_time_there_are_no_headers(context: Context) -> None:
    assert context.get_request_header(0, "Content-Type") is None
    assert context.get_request_id() is None


def test_each_element_of_a_batch_has_its_own_headers(context: Context) -> None:
    context.begin(
        [Request(b"", Headers((("X-A", str(n)),)), request_id=f"r-{n}") for n in range(2)]
    )
    assert [context.get_request_header(n, "x-a") for n in range(2)] == ["0", "1"]
    assert context.get_all_request_header(1)["x-A"] == "1"
    assert context.request_processor[1].get_request_property("X-A") == "1"
    assert dict(context.request_processor[1].get_request_properties()) == {"X-A": "1"}
    assert [context.get_request_id(), context.get_request_id(1)] == ["r-0", "r-1"]


def test_what_is_answered_is_kept_by_element_and_forgotten_with_the_batch(
    context: Context,
) -> None:
    context.begin([Request(b""), Request(b"")])
    context.set_response_status(201, "Created", idx=1)
    context.set_response_header(1, "X-B", "b")
    context.set_response_content_type(1, "text/csv")
    assert context.get_response_status(0) == (200, "")
    assert context.get_response_status(1) == (201, "Created")
    assert context.get_response_headers(0) == {}
    assert context.get_response_headers(1) == {"X-B": "b", "content-type": "text/csv"}
    assert context.get_response_content_type(1) == "text/csv"
    assert context.get_response_content_type(0) is None
    context.set_all_response_status(500)
    assert [context.get_response_status(n)[0] for n in range(2)] == [500, 500]
    context.begin([Request(b"")])
    assert context.get_response_status(0) == (200, "")


def test_a_header_set_twice_in_another_case_is_replaced(context: Context) -> None:
    context.set_response_header(0, "Content-Type", "a")
    context.set_response_content_type(0, "b")
    assert context.get_response_headers(0) == {"content-type": "b"}


def test_metrics_go_to_the_log(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        context.metrics.add_counter("seen", 3)
        context.metrics.add_time("took", 1.5, 0)
        context.metrics.add_size("size", 2, unit="kB")
        context.metrics.add_percent("full", 50)
        context.metrics.add_error("bad", "thing")
        context.metrics.add_metric("other", 1, "unit")
    assert "metric seen=3 unit=Count" in caplog.text
    assert "metric took=1.5 unit=ms" in caplog.text
    assert "metric bad=thing" in caplog.text


def test_all_headers_are_a_dict_in_which_case_does_not_matter(context: Context) -> None:
    context.begin([Request(b"", Headers((("X-Tenant", "red"),)))])
    headers = context.get_all_request_header(0)
    assert isinstance(headers, dict)
    assert (str(headers), json.dumps(headers)) == ("{'X-Tenant': 'red'}", '{"X-Tenant": "red"}')
    assert (headers["x-tenant"], headers.get("X-TENANT"), "x-tenant" in headers) == (
        *("red", "red"),
        True,
    )
    assert headers.get("X-None") is None
    with pytest.raises(KeyError):
        headers["X-None"]


def test_it_has_what_torchserves_context_has(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = Headers((("ts_request_sequence_id", "s1"), ("explain", "True")))
    context.begin([Request(b"", headers), Request(b"")])
    assert [context.get_sequence_id(0), context.get_sequence_id(1)] == ["s1", None]
    assert context.explain
    context.metrics.add_metric_to_cache("cached", "ms", ["Level"])
    context.metrics.get_metric("cached").add_or_update(3, ["Model"])
    assert "metric cached=3 unit=ms" in caplog.text
