"""Ours: what becomes of processes and memory when models misbehave and when the server stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import time

import httpx
import pytest

from .endpoint import Endpoint, assert_error, url_of
from .polling import eventually
from .processes import is_running, shared_out_bytes
from .server import OwnServer, Server, wait_until_healthy

MIB = 1024 * 1024
Serve = Callable[..., OwnServer]
EndpointOf = Callable[[Server], Endpoint]


def failed(request: Future[httpx.Response]) -> bool:
    """Whether the request ended in an error, or in no answer at all."""
    return request.exception() is not None or request.result().status_code >= 400


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [("prints_a_lot", "printed"), ("closes_stdout", "still here"), ("starts_threads", "5")],
)
def test_a_model_may_do_what_it_likes_with_output_and_threads(
    endpoint: Endpoint, behaviour: str, answer: str
) -> None:
    name = endpoint.loaded(behaviour)
    assert endpoint.invoke(name).text == answer
    assert endpoint.unload(name).status_code == 200


def test_what_a_model_forked_is_gone_when_its_unload_answers(
    own_server: OwnServer, endpoint: Endpoint
) -> None:
    name = endpoint.loaded("forks")
    forked = int(endpoint.invoke(name).text)
    assert is_running(forked)
    assert endpoint.unload(name).status_code == 200
    assert not is_running(forked)
    assert own_server.process.poll() is None


def test_the_memory_of_a_model_is_back_when_its_unload_answers(
    own_server: OwnServer, endpoint: Endpoint
) -> None:
    endpoint.unload(endpoint.loaded("allocates_100mb"))  # whatever starts on first need has started
    before = shared_out_bytes(own_server.processes())
    for _ in range(3):
        name = endpoint.loaded("allocates_100mb")
        assert shared_out_bytes(own_server.processes()) > before + 90 * MIB
        endpoint.unload(name)
        assert shared_out_bytes(own_server.processes()) < before + 10 * MIB


def test_a_failed_load_leaves_no_process_behind(own_server: OwnServer, endpoint: Endpoint) -> None:
    endpoint.load("raises_on_load")
    before = own_server.processes()
    for _ in range(5):
        endpoint.load("raises_on_load")
        endpoint.load("os_exits_on_load")
    assert eventually(lambda: own_server.processes() <= before)


def test_a_model_that_raises_keeps_its_process(endpoint: Endpoint) -> None:
    name = endpoint.loaded("sleeps")
    for _ in range(3):
        assert_error(endpoint.invoke(name, b"not a number"), 500)
    assert endpoint.invoke(name, b"0").text == "slept 0"


def test_a_model_whose_process_is_killed_comes_back_by_itself(
    own_server: OwnServer, endpoint: Endpoint
) -> None:
    name = endpoint.loaded("reports_process")
    killed = endpoint.invoke(name).json()["pid"]
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: endpoint.invoke(name).status_code == 200)
    assert endpoint.invoke(name).json()["pid"] != killed
    assert endpoint.get(name).status_code == 200
    assert own_server.ping_status() == 200


@pytest.mark.parametrize(
    "behaviour", ["exits_on_predict", "os_exits_on_predict", "segfaults_on_predict"]
)
def test_a_model_that_ends_its_process_can_be_unloaded(endpoint: Endpoint, behaviour: str) -> None:
    name = endpoint.loaded(behaviour)
    assert_error(endpoint.invoke(name), 500)
    assert endpoint.unload(name).status_code == 200
    assert_error(endpoint.invoke(name), 404)


def test_an_unload_lets_the_request_in_flight_finish(
    endpoint: Endpoint, threads: ThreadPoolExecutor, models_dir: Path
) -> None:
    name, started = endpoint.loaded("sleeps"), models_dir / "started-before-unload"
    in_flight = threads.submit(endpoint.invoke, name, f"1 {started}".encode())
    assert eventually(started.exists)
    assert endpoint.unload(name).status_code == 200
    assert in_flight.result().text == "slept 1"


def test_a_request_over_the_time_limit_is_504_and_the_model_serves_again(
    serve_many: Serve, endpoint_of: EndpointOf
) -> None:
    own = serve_many(MODELYARD_REQUEST_TIMEOUT_SECONDS="1")
    endpoint = endpoint_of(own)
    name = endpoint.loaded("sleeps")
    response = endpoint.invoke(name, b"30")
    assert_error(response, 504)
    assert response.elapsed.total_seconds() < 15.0
    served = eventually(lambda: endpoint.invoke(name, b"0").status_code == 200)
    assert served


def test_a_load_over_the_time_limit_is_504_and_leaves_nothing_behind(
    serve_many: Serve, endpoint_of: EndpointOf
) -> None:
    own = serve_many(MODELYARD_LOAD_TIMEOUT_SECONDS="1")
    endpoint = endpoint_of(own)
    endpoint.unload(endpoint.loaded("echo"))  # whatever starts on first need has started
    before = own.processes()
    assert_error(endpoint.load("never_returns_on_load"), 504)
    assert endpoint.names() == set()
    assert eventually(lambda: own.processes() <= before)


def test_sigterm_lets_requests_in_flight_finish(
    serve_many: Serve, endpoint_of: EndpointOf, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own = serve_many()
    endpoint = endpoint_of(own)
    names = [endpoint.loaded("sleeps") for _ in range(3)]
    files = [tmp_path / name for name in names]
    bodies = [f"2 {file}".encode() for file in files]
    in_flight = [threads.submit(endpoint.invoke, *pair) for pair in zip(names, bodies, strict=True)]
    assert eventually(lambda: all(file.exists() for file in files))
    assert own.stop() == 0
    assert [request.result().text for request in in_flight] == ["slept 2"] * 3
    assert eventually(lambda: not own.processes())


def test_sigterm_ends_an_idle_server_with_loaded_models_at_once(
    serve_many: Serve, endpoint_of: EndpointOf
) -> None:
    own = serve_many()
    endpoint = endpoint_of(own)
    for behaviour in ("echo", "starts_threads", "forks"):
        endpoint.loaded(behaviour)
    began = time()
    assert own.stop() == 0
    assert time() - began < 15.0
    assert eventually(lambda: not own.processes())


def test_sigterm_ends_a_server_that_is_still_warming_up(serve: Serve, models_dir: Path) -> None:
    own = serve(SAGEMAKER_MULTI_MODEL="true", MODELYARD_MODEL_ROOTS=str(models_dir))
    wait_until_healthy(own)
    assert own.stop() == 0
    assert eventually(lambda: not own.processes())


@pytest.mark.parametrize("preload", ["none", "python"])
def test_unloading_a_model_that_is_still_loading_ends_its_load(
    serve_many: Serve, endpoint_of: EndpointOf, threads: ThreadPoolExecutor, preload: str
) -> None:
    endpoint = endpoint_of(
        serve_many(MODELYARD_LOAD_TIMEOUT_SECONDS="10", MODELYARD_PRELOAD=preload)
    )
    loading = threads.submit(endpoint.load, "never_returns_on_load", "wanted")
    assert eventually(lambda: endpoint.unload("wanted").status_code == 200)
    response = loading.result()
    assert_error(response, response.status_code)
    assert response.elapsed.total_seconds() < 15.0
    assert endpoint.load("echo", "wanted").status_code == 200


@pytest.mark.parametrize("preload", ["none", "python"])
def test_sigterm_ends_even_a_load_that_never_returns(
    serve_many: Serve, endpoint_of: EndpointOf, threads: ThreadPoolExecutor, preload: str
) -> None:
    own = serve_many(MODELYARD_DRAIN_TIMEOUT_SECONDS="2", MODELYARD_PRELOAD=preload)
    before = own.processes()
    loading = threads.submit(endpoint_of(own).load, "never_returns_on_load")
    assert eventually(lambda: own.processes() > before)
    assert own.stop() == 0
    assert failed(loading)
    assert eventually(lambda: not own.processes())


def test_sigterm_ends_even_a_request_that_never_returns(
    serve_many: Serve, endpoint_of: EndpointOf, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own = serve_many(MODELYARD_DRAIN_TIMEOUT_SECONDS="2")
    endpoint, started = endpoint_of(own), tmp_path / "started"
    in_flight = threads.submit(
        endpoint.invoke, endpoint.loaded("sleeps"), f"600 {started}".encode()
    )
    assert eventually(started.exists)
    assert own.stop() == 0
    assert failed(in_flight)
    assert eventually(lambda: not own.processes())


def test_killing_the_server_leaves_no_process_behind(
    serve_many: Serve, endpoint_of: EndpointOf
) -> None:
    own = serve_many()
    endpoint_of(own).loaded("echo")
    own.process.kill()
    own.process.wait()
    assert eventually(lambda: not own.processes())


def test_a_single_model_is_healthy_only_once_it_is_loaded(
    serve: Serve, endpoint_of: EndpointOf, models_dir: Path
) -> None:
    url = url_of(models_dir, "slow_load")
    own = serve(MODELYARD_MODEL_DIR=url)
    wait_until_healthy(own)
    healthy_at = time()
    response = endpoint_of(own).send("POST", "/invocations", content=b"x")
    assert response.status_code == 200
    assert float(response.text) <= healthy_at


def test_a_single_model_answers_invocations(
    serve: Serve, endpoint_of: EndpointOf, models_dir: Path
) -> None:
    url = url_of(models_dir, "adds")
    own = serve(MODELYARD_MODEL_DIR=url)
    wait_until_healthy(own)
    headers = {"Content-Type": "application/json"}
    endpoint = endpoint_of(own)
    reply = endpoint.send("POST", "/invocations", content=b"[1, 2]", headers=headers)
    assert reply.json() == 3
    assert_error(endpoint.send("GET", "/invocations"), 405)
