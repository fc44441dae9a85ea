"""Documented: POST /models/{name}/invoke. Bodies and the platform's headers pass unchanged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from .endpoint import Endpoint

MIB = 1024 * 1024
RANDOM = Random(20)
BODIES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "text": "naïve 模型 🙂".encode(),
    "line ends": b"\r\n\r\n0\r\n\r\n",
    "64 KiB of noise": RANDOM.randbytes(64 * 1024),
    "1 MiB of noise": RANDOM.randbytes(MIB),
    "24 MiB of noise": RANDOM.randbytes(MIB) * 24,
}
PLATFORM_HEADERS = {
    "Content-Type": "application/x-made-up; charset=utf-8",
    "Accept": "application/x-wanted",
    "X-Amzn-SageMaker-Custom-Attributes": 'trace=1,{"a": "b"} ; =',
    "X-Amzn-SageMaker-Target-Model": "team a/model-7.tar.gz",
    "X-Amzn-SageMaker-Inference-Id": "0b5f8b2e-inference",
    "X-Amzn-SageMaker-Session-Id": "NEW_SESSION",
    "X-Amzn-SageMaker-New-Session-Id": "unusual but legal",
}
KILLERS = ["exits_on_predict", "os_exits_on_predict", "segfaults_on_predict"]


def test_invoking_a_model_that_is_not_loaded_is_404(endpoint: Endpoint) -> None:
    assert endpoint.invoke("unknown", b"x").status_code == 404


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_passes_unchanged_both_ways(endpoint: Endpoint, body: bytes) -> None:
    response = endpoint.invoke(endpoint.loaded("echo"), body)
    assert response.status_code == 200
    assert response.content == body


def test_the_models_choice_of_content_type_reaches_the_client(endpoint: Endpoint) -> None:
    name = endpoint.loaded("echo")
    response = endpoint.invoke(name, b"x", {"Accept": "application/x-wanted"})
    assert response.headers["content-type"] == "application/x-wanted"


@pytest.mark.parametrize("header", PLATFORM_HEADERS)
def test_a_header_of_the_platform_reaches_the_model(endpoint: Endpoint, header: str) -> None:
    value = PLATFORM_HEADERS[header]
    name = endpoint.loaded("headers")
    response = endpoint.invoke(name, json.dumps([header]).encode(), {header: value})
    assert response.json() == {header: value}


def test_headers_of_one_request_do_not_reach_the_next(endpoint: Endpoint) -> None:
    name, header = endpoint.loaded("headers"), "X-Amzn-SageMaker-Custom-Attributes"
    asked = json.dumps([header]).encode()
    assert endpoint.invoke(name, asked, {header: "first"}).json() == {header: "first"}
    assert endpoint.invoke(name, asked).json() == {header: None}


@pytest.mark.parametrize(
    "header",
    [
        "X-Amzn-SageMaker-Custom-Attributes",
        "X-Amzn-SageMaker-New-Session-Id",
        "X-Amzn-SageMaker-Closed-Session-Id",
    ],
)
def test_a_response_header_is_there_only_if_the_model_sets_it(
    endpoint: Endpoint, header: str
) -> None:
    name = endpoint.loaded("sets_custom_attributes")
    value = "abc; Expires=2030-01-01T00:00:00Z"
    assert endpoint.invoke(name, json.dumps({header: value}).encode()).headers[header] == value
    assert header not in endpoint.invoke(name, b"{}", {header: "sent by the client"}).headers


def test_many_requests_at_once_each_get_their_own_answer(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    names = [endpoint.loaded("adds") for _ in range(3)]

    def ask(number: int) -> int:
        answer: int = endpoint.invoke(names[number % 3], f"[{number}, 1]".encode()).json()
        return answer

    assert list(threads.map(ask, range(90))) == list(range(1, 91))


def test_a_model_that_raises_is_an_error_but_neither_404_nor_507(endpoint: Endpoint) -> None:
    status = endpoint.invoke(endpoint.loaded("raises_on_predict")).status_code
    assert 400 <= status < 600
    assert status not in (404, 507)


@pytest.mark.parametrize("behaviour", KILLERS)
def test_a_model_that_ends_its_process_is_a_server_error(
    endpoint: Endpoint, behaviour: str
) -> None:
    assert 500 <= endpoint.invoke(endpoint.loaded(behaviour)).status_code < 600


@pytest.mark.parametrize("behaviour", KILLERS)
def test_a_model_that_ends_its_process_does_not_harm_the_others(
    endpoint: Endpoint, behaviour: str
) -> None:
    other, killer = endpoint.loaded("echo"), endpoint.loaded(behaviour)
    endpoint.invoke(killer)
    assert endpoint.invoke(other, b"unharmed").content == b"unharmed"


def test_a_slow_model_does_not_hold_up_the_others(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    other, slow = endpoint.loaded("echo"), endpoint.loaded("sleeps")
    computing = [threads.submit(endpoint.invoke, slow, b"1") for _ in range(3)]
    quick = endpoint.invoke(other, b"x")
    assert not all(request.done() for request in computing)
    assert quick.content == b"x"
    assert [request.result().status_code for request in computing] == [200] * 3
