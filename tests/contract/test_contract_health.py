"""Documented: the probes, which decide whether the platform keeps the instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .endpoint import Endpoint
from .server import PROBE_SECONDS


def probe(endpoint: Endpoint) -> float:
    """The longer of the times that the two probes took; both must succeed."""
    probes = (endpoint.ping(), endpoint.list_models())
    assert [response.status_code for response in probes] == [200, 200]
    return max(response.elapsed.total_seconds() for response in probes)


def test_ping_is_200_with_no_model_loaded(endpoint: Endpoint) -> None:
    assert endpoint.ping().status_code == 200


def test_list_is_200_and_empty_with_no_model_loaded(endpoint: Endpoint) -> None:
    response = endpoint.list_models()
    assert response.status_code == 200
    assert response.json() == {"models": []}


def test_probes_answer_in_time_while_a_model_loads(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    loading = threads.submit(endpoint.load, "slow_load")
    slowest, during = 0.0, 0
    while not loading.done():
        slowest = max(slowest, probe(endpoint))
        during += 1
    assert loading.result().status_code == 200
    assert during > 1
    assert slowest < PROBE_SECONDS


def test_probes_answer_in_time_while_a_model_computes(
    endpoint: Endpoint, threads: ThreadPoolExecutor
) -> None:
    name = endpoint.loaded("sleeps")
    computing = threads.submit(endpoint.invoke, name, b"1")
    slowest = probe(endpoint)
    while not computing.done():
        slowest = max(slowest, probe(endpoint))
    assert computing.result().status_code == 200
    assert slowest < PROBE_SECONDS


def test_ping_stays_200_after_a_load_failed(endpoint: Endpoint) -> None:
    assert endpoint.load("raises_on_load").status_code != 200
    assert endpoint.ping().status_code == 200


def test_ping_stays_200_after_a_model_killed_its_process(endpoint: Endpoint) -> None:
    endpoint.invoke(endpoint.loaded("os_exits_on_predict"))
    assert endpoint.ping().status_code == 200
