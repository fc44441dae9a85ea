"""What the code inside a model may rely on, whichever container of AWS it was written for."""

from __future__ import annotations

import pytest

from .endpoint import Endpoint


def test_a_module_with_only_a_transform_function_answers(endpoint: Endpoint) -> None:
    assert endpoint.invoke(endpoint.loaded("transform_only"), b"x").text == "transformed: x"


@pytest.mark.parametrize("behaviour", ["class_handler", "function_handler"])
def test_a_custom_service_named_in_the_manifest_answers(endpoint: Endpoint, behaviour: str) -> None:
    name = endpoint.loaded(behaviour)
    reply = endpoint.invoke(name, b"x")
    assert reply.json() == {"got": "x", "loads": 1, "name": name}
    assert reply.headers["content-type"] == "application/json"


def test_a_model_opens_its_files_by_relative_path(endpoint: Endpoint) -> None:
    assert endpoint.invoke(endpoint.loaded("reads_relative_file")).text == "hello hello "


def test_two_models_have_modules_of_the_same_name(endpoint: Endpoint) -> None:
    names = [endpoint.loaded(f"same_module_name_{which}") for which in "ab"]
    assert [endpoint.invoke(name).text for name in names] == ["a", "b"]


def test_a_model_may_have_modules_named_like_the_servers_own(endpoint: Endpoint) -> None:
    assert endpoint.invoke(endpoint.loaded("shadows_handlers")).text == "mine mine mine"


def test_every_function_may_take_a_context(endpoint: Endpoint) -> None:
    name = endpoint.loaded("context_model")
    header = {"X-Amzn-SageMaker-Custom-Attributes": "trace=1"}
    assert endpoint.invoke(name, b"x", header).json() == {
        "loaded_from": endpoint.url_of("context_model"),
        "input_saw": "trace=1",
        "gpu_id": None,
        "model_name": name,
    }


def test_a_model_that_leaves_its_directory_stays_in_its_own_process(endpoint: Endpoint) -> None:
    assert endpoint.invoke(endpoint.loaded("changes_directory")).text == "/"
    assert endpoint.invoke(endpoint.loaded("reads_relative_file")).text == "hello hello "


def test_a_process_of_a_model_computes_on_one_thread(endpoint: Endpoint) -> None:
    assert endpoint.invoke(endpoint.loaded("reports_process")).json()["omp_num_threads"] == "1"
