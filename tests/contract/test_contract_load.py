"""Documented: POST /models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .endpoint import Endpoint, assert_failed_load

BROKEN = ["raises_on_import", "raises_on_load", "exits_on_load", "os_exits_on_load"]


def test_a_load_answers_200_and_the_model_serves_at_once(endpoint: Endpoint) -> None:
    assert endpoint.load("echo").status_code == 200
    assert endpoint.invoke("echo", b"hello").content == b"hello"


def test_a_load_answers_only_when_the_model_has_loaded(endpoint: Endpoint) -> None:
    response = endpoint.load("slow_load")
    assert response.status_code == 200
    assert response.elapsed.total_seconds() >= 2.0
    assert endpoint.invoke("slow_load").elapsed.total_seconds() < 2.0


def test_loading_a_loaded_model_is_409(endpoint: Endpoint) -> None:
    assert endpoint.load("echo").status_code == 200
    assert endpoint.load("echo").status_code == 409


def test_loading_another_directory_under_a_loaded_name_is_409(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    assert endpoint.load("adds", name).status_code == 409
    assert endpoint.invoke(name, b"still the first").content == b"still the first"


def test_of_concurrent_loads_of_one_name_one_is_200_and_the_rest_409(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    url = endpoint.url_of("slow_load")
    loads = [threads.submit(endpoint.load_url, "wanted", url) for _ in range(8)]
    assert sorted(load.result().status_code for load in loads) == [200] + [409] * 7
    assert endpoint.invoke("wanted").status_code == 200


def test_one_directory_can_be_loaded_under_two_names(endpoint: Endpoint) -> None:
    for name in (endpoint.loaded("adds"), endpoint.loaded("adds")):
        assert endpoint.invoke(name, b"[1, 2]").json() == 3


def test_models_load_at_the_same_time(endpoint: Endpoint, threads: ThreadPoolExecutor) -> None:
    url = endpoint.url_of("echo")
    names = [f"at-once-{number}" for number in range(6)]
    loads = [threads.submit(endpoint.load_url, name, url) for name in names]
    assert [load.result().status_code for load in loads] == [200] * 6
    assert {endpoint.invoke(name, name.encode()).text for name in names} == set(names)


def test_the_platforms_own_kind_of_name_loads(endpoint: Endpoint) -> None:
    name = "495cff3d03904752de92203d58f75f33"
    assert endpoint.load("echo", name).status_code == 200
    assert endpoint.invoke(name, b"x").content == b"x"


@pytest.mark.parametrize("behaviour", BROKEN)
def test_a_model_that_cannot_load_is_an_error_and_is_not_loaded(
    endpoint: Endpoint, behaviour: str
) -> None:
    assert_failed_load(endpoint.load(behaviour))
    assert behaviour not in endpoint.names()
    assert endpoint.get(behaviour).status_code == 404
    assert endpoint.invoke(behaviour).status_code == 404


def test_a_model_that_runs_out_of_memory_while_it_loads_is_507(endpoint: Endpoint) -> None:
    assert endpoint.load("memory_error_on_load").status_code == 507


def test_a_model_that_was_answered_507_is_not_loaded(endpoint: Endpoint) -> None:
    statuses = [endpoint.load("memory_error_on_load").status_code for _ in range(2)]
    assert statuses == [507, 507]
    assert endpoint.get("memory_error_on_load").status_code == 404


def test_a_name_is_free_again_after_its_load_failed(endpoint: Endpoint) -> None:
    assert_failed_load(endpoint.load("raises_on_load", "second-try"))
    assert endpoint.load("echo", "second-try").status_code == 200


def test_a_url_that_does_not_exist_is_an_error(endpoint: Endpoint, models_dir: Path) -> None:
    assert_failed_load(endpoint.load_url("nowhere", str(models_dir / "no-such-directory")))
    assert endpoint.get("nowhere").status_code == 404


def test_an_empty_directory_is_an_error(endpoint: Endpoint, models_dir: Path) -> None:
    empty = models_dir / "empty"
    empty.mkdir(exist_ok=True)
    assert_failed_load(endpoint.load_url("empty", str(empty)))
    assert "empty" not in endpoint.names()


@pytest.mark.parametrize(
    "body", [b"", b"nope", b"{}", b'{"model_name": "echo"}', b'{"url": "/models/echo"}', b"[]"]
)
def test_a_load_request_that_makes_no_sense_is_an_error(endpoint: Endpoint, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_failed_load(endpoint.send("POST", "/models", content=body, headers=headers))
    assert endpoint.list_models().json() == {"models": []}
