"""Documented: DELETE /models/{name}. When it answers, what the model held is free."""

from __future__ import annotations

import os
from typing import Any

import pytest

from .endpoint import Endpoint
from .processes import is_running


def test_an_unloaded_model_is_unknown_to_every_route(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    assert endpoint.unload(name).status_code == 200
    gone = (endpoint.get(name), endpoint.invoke(name), endpoint.unload(name))
    assert [response.status_code for response in gone] == [404, 404, 404]


def test_unloading_a_model_that_was_never_loaded_is_404(endpoint: Endpoint) -> None:
    assert endpoint.unload("unknown").status_code == 404


def test_a_model_can_be_loaded_again_after_an_unload(endpoint: Endpoint) -> None:
    assert endpoint.load("echo").status_code == 200
    assert endpoint.unload("echo").status_code == 200
    assert endpoint.load("echo").status_code == 200
    assert endpoint.invoke("echo", b"again").content == b"again"


def test_unloading_one_model_leaves_the_others_alone(endpoint: Endpoint) -> None:
    kept, gone = endpoint.loaded("echo"), endpoint.loaded("echo")
    assert endpoint.unload(gone).status_code == 200
    assert endpoint.invoke(kept, b"here").content == b"here"


def test_the_models_process_is_gone_when_the_unload_answers(endpoint: Endpoint) -> None:
    name = endpoint.loaded("reports_process")
    process: dict[str, Any] = endpoint.invoke(name).json()
    if process["pid_namespace"] != os.readlink("/proc/self/ns/pid"):  # noqa: PTH115
        pytest.skip("the server's processes cannot be seen from here")
    assert is_running(process["pid"])
    assert endpoint.unload(name).status_code == 200
    assert not is_running(process["pid"])
