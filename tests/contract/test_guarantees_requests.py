"""Ours: which status each wrong request gets, the shape of errors, and that names are opaque."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .endpoint import Endpoint, assert_error, path_of
from .raw import RawConnection, post, request

Connect = Callable[[], RawConnection]

NAMES = {
    "spaces": "a model with spaces",
    "emoji": "🦙 llama 🦙",
    "unicode": "modèle-模型-модель",
    "slash": "team-a/model-7",
    "many slashes": "//a//b//",
    "invoke in it": "a/invoke",
    "dot": ".",
    "dots": "..",
    "a way out": "../../etc/passwd",
    "escaped slash": "a%2Fb",
    "escaped dots": "%2e%2e",
    "plus": "a+b",
    "query": "a?b=c&d#e",
    "line end": "a\r\nX-Injected: yes",
    "zero byte": "a\x00b",
    "backslash and quotes": "a\\b\"c'd",
    "10,000 characters": "n" * 10_000,
}
WRONG_LOADS: dict[str, Any] = {
    "no fields": {},
    "no url": {"model_name": "wrong"},
    "no name": {"url": "/somewhere"},
    "empty name": {"model_name": "", "url": "/somewhere"},
    "empty url": {"model_name": "wrong", "url": ""},
    "name is a number": {"model_name": 7, "url": "/somewhere"},
    "name is null": {"model_name": None, "url": "/somewhere"},
    "url is a list": {"model_name": "wrong", "url": ["/somewhere"]},
    "camel case": {"modelName": "wrong", "modelUrl": "/somewhere"},
    "a list": [],
    "a string": "wrong",
    "null": None,
}
NOT_JSON = {
    "empty": b"",
    "not JSON": b"nope",
    "cut off": b'{"model_name": "wr',
    "not UTF-8": b'{"model_name": "\xff\xfe", "url": "/x"}',
    "trailing comma": b'{"model_name": "wrong", "url": "/x",}',
    "deep": b"[" * 100_000,
}
ALLOWED = {
    "/ping": {"GET"},
    "/models": {"GET", "POST"},
    "/models/unknown": {"GET", "DELETE"},
    "/models/unknown/invoke": {"POST"},
    "/metrics": {"GET"},
    "/execution-parameters": {"GET"},
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_text_is_a_name(endpoint: Endpoint, name: str) -> None:
    assert endpoint.load("echo", name).status_code == 200
    assert endpoint.invoke(name, b"x").content == b"x"
    assert endpoint.get(name).json()["modelName"] == name
    assert endpoint.names() == {name}
    assert endpoint.unload(name).status_code == 200
    assert_error(endpoint.get(name), 404)


def test_names_that_look_alike_are_different_models(endpoint: Endpoint) -> None:
    names = ["a/b", "a%2Fb", "a%252Fb", "A/b", "a/b/", "é", "e\u0301"]
    for name in names:
        endpoint.load("echo", name)
    assert endpoint.names() == set(names)
    for name in names:
        assert endpoint.unload(name).status_code == 200


@pytest.mark.parametrize("body", WRONG_LOADS.values(), ids=WRONG_LOADS.keys())
def test_a_load_with_wrong_fields_is_400(endpoint: Endpoint, body: Any) -> None:
    assert_error(endpoint.send("POST", "/models", json=body), 400)


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_load_that_is_not_json_is_400(endpoint: Endpoint, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_error(endpoint.send("POST", "/models", content=body, headers=headers), 400)


def test_a_load_request_may_have_fields_that_we_do_not_know(endpoint: Endpoint) -> None:
    body = {"model_name": "echo", "url": endpoint.url_of("echo"), "from_the_future": [1]}
    assert endpoint.send("POST", "/models", json=body).status_code == 200
    assert endpoint.unload("echo").status_code == 200


def test_a_url_that_does_not_exist_is_404(endpoint: Endpoint, models_dir: Path) -> None:
    missing = str(models_dir / "no-such-directory")
    assert missing in assert_error(endpoint.load_url("wrong", missing), 404)


def test_a_url_that_is_a_file_is_400(endpoint: Endpoint) -> None:
    script = endpoint.url_of("echo") + "/code/inference.py"
    assert "directory" in assert_error(endpoint.load_url("wrong", script), 400)


@pytest.mark.parametrize("url", ["/proc/self", "/proc/1/root", "/sys", "/dev", "/", "/etc"])
def test_a_url_outside_the_roots_is_400_and_says_which_setting_to_change(
    endpoint: Endpoint, url: str
) -> None:
    message = assert_error(endpoint.load_url("wrong", url), 400)
    assert "MODELYARD_MODEL_ROOTS" in message


@pytest.mark.parametrize("way", ["../outside", "./../outside", "echo/../../outside"])
def test_a_url_that_climbs_out_of_the_roots_is_400(
    endpoint: Endpoint, models_dir: Path, way: str
) -> None:
    endpoint.url_of("echo")
    (models_dir.parent / "outside").mkdir(exist_ok=True)
    assert_error(endpoint.load_url("wrong", f"{models_dir}/{way}"), 400)


def test_a_link_that_leads_out_of_the_roots_is_400(endpoint: Endpoint, models_dir: Path) -> None:
    (models_dir.parent / "outside").mkdir(exist_ok=True)
    link = models_dir / "link"
    if not link.is_symlink():
        link.symlink_to(models_dir.parent / "outside")
    assert_error(endpoint.load_url("wrong", str(link)), 400)


def test_a_relative_url_is_400(endpoint: Endpoint) -> None:
    endpoint.url_of("echo")
    assert_error(endpoint.load_url("wrong", "echo"), 400)


def test_a_failed_load_says_what_was_raised_but_not_where(endpoint: Endpoint) -> None:
    response = endpoint.load("raises_on_load")
    message = assert_error(response, response.status_code)
    assert "raised while the model was loaded" in message
    assert "inference.py" not in message


@pytest.mark.parametrize("behaviour", ["exits_on_load", "os_exits_on_load"])
def test_a_load_that_ends_its_process_says_so(endpoint: Endpoint, behaviour: str) -> None:
    assert "3" in assert_error(endpoint.load(behaviour), 500)


def test_a_model_that_raises_is_500_without_a_traceback(endpoint: Endpoint) -> None:
    response = endpoint.invoke(endpoint.loaded("raises_on_predict"))
    message = assert_error(response, 500)
    assert "raised while the request was handled" in message
    assert "inference.py" not in message


def test_a_model_that_runs_out_of_memory_in_a_request_is_507(endpoint: Endpoint) -> None:
    assert_error(endpoint.invoke(endpoint.loaded("memory_error_on_predict")), 507)


def test_a_model_that_returns_what_nobody_can_send_is_500(endpoint: Endpoint) -> None:
    name = endpoint.loaded("returns_wrong_type")
    assert_error(endpoint.invoke(name), 500)


def test_errors_of_unknown_models_name_the_model(endpoint: Endpoint) -> None:
    asked = (endpoint.get("no such"), endpoint.unload("no such"), endpoint.invoke("no such"))
    for response in asked:
        assert "no such" in assert_error(response, 404)


def test_a_conflict_names_the_model(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    assert name in assert_error(endpoint.load("echo", name), 409)


def test_a_name_cannot_write_headers_of_its_own(endpoint: Endpoint) -> None:
    response = endpoint.get("a\r\nX-Injected: yes")
    assert_error(response, 404)
    assert "x-injected" not in response.headers


@pytest.mark.parametrize("path", ["/", "/nowhere", "/models/a/b", "/models/a/invoke/b", "/PING"])
def test_an_unknown_route_is_404(endpoint: Endpoint, path: str) -> None:
    assert_error(endpoint.send("GET", path), 404)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ALLOWED)
def test_a_wrong_method_is_405_and_says_which_are_right(
    endpoint: Endpoint, path: str, method: str
) -> None:
    if method in ALLOWED[path]:
        assert endpoint.send(method, path).status_code != 405
        return
    response = endpoint.send(method, path)
    assert_error(response, 405)
    allowed = {name.strip() for name in response.headers["allow"].split(",")}
    assert ALLOWED[path] <= allowed <= ALLOWED[path] | {"HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/ping", "/models", "/nowhere", "/models/unknown/invoke"])
def test_head_is_answered_without_a_body(connect: Connect, path: str) -> None:
    connection = connect()
    connection.send(request("HEAD", path), request("GET", "/ping"))
    assert connection.receive(has_body=False).status in (200, 404, 405)
    assert connection.receive().status == 200


def test_pages_are_full_and_none_is_empty(endpoint: Endpoint) -> None:
    for count in range(1, 5):
        endpoint.loaded("echo")
        assert sum(map(len, endpoint.pages(limit=2))) == count
        assert [len(page) for page in endpoint.pages(limit=2)][-1] > 0


def test_a_list_that_changes_between_pages_keeps_what_stayed(endpoint: Endpoint) -> None:
    names = sorted(endpoint.loaded("echo") for _ in range(4))
    first = endpoint.list_models("limit=2").json()
    endpoint.unload(first["models"][0]["modelName"])
    rest = endpoint.list_models(f"limit=2&next_page_token={first['nextPageToken']}").json()
    seen = [entry["modelName"] for entry in first["models"] + rest["models"]]
    assert sorted(seen) == names


@pytest.mark.parametrize(
    "query",
    ["next_page_token=%21%21nonsense", "next_page_token=-1", "limit=0", "limit=-1", "limit=x"],
)
def test_a_page_that_makes_no_sense_is_400(endpoint: Endpoint, query: str) -> None:
    assert_error(endpoint.list_models(query), 400)


def test_of_concurrent_unloads_one_is_200_and_the_rest_404(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    name = endpoint.loaded("echo")
    unloads = [threads.submit(endpoint.unload, name) for _ in range(6)]
    assert sorted(unload.result().status_code for unload in unloads) == [200] + [404] * 5


def test_the_model_sees_headers_in_any_case(endpoint: Endpoint, connect: Connect) -> None:
    connection = connect()
    target = path_of(endpoint.loaded("echo")) + "/invoke"
    connection.send(request("POST", target, "content-length: 1", "aCCEPT: a/b", body=b"x"))
    assert connection.receive().headers["content-type"] == "a/b"


def test_execution_parameters_answer_for_batch_transform(endpoint: Endpoint) -> None:
    parameters = endpoint.send("GET", "/execution-parameters").json()
    assert parameters["BatchStrategy"] in ("MULTI_RECORD", "SINGLE_RECORD")
    assert parameters["MaxConcurrentTransforms"] >= 1
    assert parameters["MaxPayloadInMB"] >= 1


def test_metrics_are_prometheus_text(endpoint: Endpoint) -> None:
    endpoint.invoke(endpoint.loaded("echo"), b"x")
    response = endpoint.send("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert list(text_string_to_metric_families(response.text))


def test_every_kind_of_answer_keeps_the_connection(endpoint: Endpoint, connect: Connect) -> None:
    connection = connect()
    echo = path_of(endpoint.loaded("echo")) + "/invoke"
    raises = path_of(endpoint.loaded("raises_on_predict")) + "/invoke"
    for target, status in ((echo, 200), ("/nowhere", 404), ("/ping", 405), (raises, 500)):
        connection.send(post(target, json.dumps([1]).encode()))
        assert connection.receive().status == status
