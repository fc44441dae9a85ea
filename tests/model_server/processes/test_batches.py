"""Requests that wait together are handled together, and none pays for another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ...contract.endpoint import Endpoint, assert_error, path_of
from ...contract.polling import eventually
from ...contract.raw import post
from ...contract.server import OwnServer, Server
from .. import inside
from ..conftest import QUICK, Yard
from ..measured import Numbers, measured
from ..told import Streaming, load, running

BEHAVIOUR = "batches_as_told"
EIGHT = "batch_size = 8"
Yarded = tuple[OwnServer, Endpoint]


@pytest.fixture(scope="module")
def batch_server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "batches.log"
    with running(models_dir, log, {**QUICK, "MODELYARD_GATEWAYS": "1"}) as own:
        yield own


@pytest.fixture
def here(
    batch_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(batch_server)
    yield batch_server, made
    made.unload_all()


class Held:
    """A model whose process is held, so that what is sent meanwhile waits and is one batch."""

    def __init__(
        self, endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, directory: Path
    ) -> None:
        self.name, self.endpoint = name, endpoint
        self._threads, self._release = threads, directory / "release"
        self.waiting: list[Future[httpx.Response]] = []
        begun = directory / "begun"
        self._first = threads.submit(endpoint.invoke, name, told(touch=begun, wait=self._release))
        assert eventually(begun.exists)

    def add(self, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send one more; it waits behind all others."""
        before = len(self.waiting)
        self.waiting.append(self._threads.submit(self.endpoint.invoke, self.name, body, headers))
        self.wait_for(before + 1)

    def wait_for(self, queued: int) -> None:
        """Until the kernel says that so many wait."""
        assert measured(self.endpoint, lambda now: now("model_queued", model=self.name) == queued)

    def release(self) -> list[httpx.Response]:
        """Let go; the answers in the order in which they were asked for."""
        self._release.touch()
        assert self._first.result().json()["batch"] == 1
        return [each.result() for each in self.waiting]


def told(**orders: Any) -> bytes:
    return json.dumps(orders, default=str).encode()


@pytest.fixture
def held(here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path) -> Held:
    own, endpoint = here
    return Held(endpoint, threads, load(endpoint, own, BEHAVIOUR, EIGHT), tmp_path)


def test_requests_that_wait_are_handled_together_each_with_its_own_headers(held: Held) -> None:
    for number in range(5):
        headers = {"X-Tell": f"t{number}", "X-Amzn-SageMaker-Inference-Id": f"id-{number}"}
        held.add(told(), headers)
    answers = held.release()
    for number, answer in enumerate(answers):
        found = answer.json()
        assert (found["batch"], found["idx"]) == (5, number)
        assert (found["tell"], found["id"]) == (f"t{number}", f"id-{number}")
        assert answer.headers["x-told"] == f"t{number}"
        assert answer.headers["content-type"] == "application/json"


def test_no_batch_is_larger_than_the_model_wants(held: Held) -> None:
    for _ in range(11):
        held.add(told())
    assert [answer.json()["batch"] for answer in held.release()] == [8] * 8 + [3] * 3


def test_each_element_has_a_status_and_a_type_of_its_own(held: Held) -> None:
    held.add(told(status=201, type="text/plain"))
    held.add(told(type="application/x-b"))
    held.add(told())
    answers = held.release()
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    types = [answer.headers["content-type"] for answer in answers]
    assert types == ["text/plain", "application/x-b", "application/json"]


def test_one_element_may_fail_alone(held: Held) -> None:
    for orders in ({}, {"fail": 422}, {}, {"fail": 503}):
        held.add(told(**orders))
    first, second, third, fourth = held.release()
    assert (first.json()["batch"], third.json()["batch"]) == (4, 4)
    assert "told to fail with 422" in assert_error(second, 422)
    assert_error(fourth, 503)


def test_a_batch_that_raises_fails_only_the_request_that_is_to_blame(held: Held) -> None:
    for orders in ({}, {"poison": True}, {}):
        held.add(told(**orders))
    first, second, third = held.release()
    assert (first.json()["batch"], third.json()["batch"]) == (1, 1)
    assert "ValueError: poison" in assert_error(second, 500)
    assert measured(held.endpoint, lambda now: now("invoke_errors_total", model=held.name) == 1)


@pytest.mark.parametrize("orders", [{"extra": 1}, {"no_list": True}])
def test_a_wrong_number_of_results_is_an_error_for_each_of_the_batch(
    held: Held, orders: dict[str, Any]
) -> None:
    held.add(told())
    held.add(told(**orders))
    held.add(told())
    for answer in held.release():
        message = assert_error(answer, 500)
        assert "one element per request" in message or "one per request" in message
    assert held.endpoint.invoke(held.name, told()).json()["batch"] == 1


def test_a_client_that_has_left_is_not_in_the_batch(here: Yarded, held: Held) -> None:
    held.add(told())
    with here[0].connect() as leaving:
        leaving.send(post(path_of(held.name) + "/invoke", told()))
        held.wait_for(2)
    assert measured(held.endpoint, lambda now: now("http_in_flight") == 2)
    held.waiting.append(held._threads.submit(held.endpoint.invoke, held.name, told()))
    held.wait_for(3)
    assert [answer.json()["batch"] for answer in held.release()] == [2, 2]
    assert measured(held.endpoint, lambda now: now("invokes_skipped_total", model=held.name) == 1)


def test_a_process_killed_in_the_middle_is_told_to_all_of_its_batch_and_to_no_other(
    held: Held,
) -> None:
    for number in range(10):
        held.add(told(kill=True) if number == 3 else told())
    answers = held.release()
    for answer in answers[:8]:
        assert "killed by signal 9 (SIGKILL)" in assert_error(answer, 500)
    assert [answer.json()["batch"] for answer in answers[8:]] == [2, 2]


def test_all_of_a_batch_over_the_time_limit_are_504(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, EIGHT + "\nrequest_timeout_seconds = 2")
    held = Held(endpoint, threads, name, tmp_path)
    before = inside.pids(endpoint, name)
    for number in range(3):
        held.add(told(wait=tmp_path / "never") if number == 1 else told())
    for answer in held.release():
        assert "more than 2 seconds" in assert_error(answer, 504)
    assert eventually(lambda: inside.pids(endpoint, name).isdisjoint(before))
    assert endpoint.invoke(name, told()).json()["batch"] == 1


def test_elements_of_a_batch_may_stream(here: Yarded, held: Held, tmp_path: Path) -> None:
    own, hold = here[0], tmp_path / "hold"
    with closing(Streaming(own)) as one, closing(Streaming(own)) as other:
        one.ask(held.name, told(stream=3, hold=hold))
        held.wait_for(1)
        other.ask(held.name, told(stream=2))
        held.wait_for(2)
        held._release.touch()
        assert (one.head()[0], other.head()[0]) == (200, 200)
        assert (one.chunk(), other.chunk()) == (b"0:0 ", b"1:0 ")
        hold.touch()
        assert (one.chunks(), other.chunks()) == (b"0:1 0:2 ", b"1:1 ")


def test_a_client_that_leaves_one_stream_of_a_batch_leaves_the_others(
    here: Yarded, held: Held, tmp_path: Path
) -> None:
    own, hold = here[0], tmp_path / "hold"
    with closing(Streaming(own)) as other:
        with closing(Streaming(own)) as leaving:
            leaving.ask(held.name, told(stream=10**9))
            held.wait_for(1)
            other.ask(held.name, told(stream=3, hold=hold))
            held.wait_for(2)
            held._release.touch()
            assert leaving.head()[0] == 200
            assert leaving.chunk() == b"0:0 "
        hold.touch()
        other.head()
        assert other.chunks() == b"1:0 1:1 1:2 "
    assert held.endpoint.invoke(held.name, told()).status_code == 200


def test_large_bodies_are_batched_whole(held: Held) -> None:
    sizes = [5 << 20, 1 << 20, 9 << 20]
    for size in sizes:
        held.add(told(pad="x" * size))
    answers = [answer.json() for answer in held.release()]
    assert [answer["batch"] for answer in answers] == [3, 3, 3]
    assert [answer["bytes"] for answer in answers] == [size + len(told(pad="")) for size in sizes]


def test_batches_are_counted(held: Held) -> None:
    for _ in range(3):
        held.add(told())
    held.release()

    def counted(now: Numbers) -> bool:
        batches = now("batches_total", model=held.name)
        return batches == 1 and now("invokes_total", model=held.name) == 4

    assert measured(held.endpoint, counted)


def test_the_first_of_a_batch_waits_for_others_as_long_as_the_model_says(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "batch_size = 2\nmax_batch_delay_ms = 30000")
    both = [threads.submit(endpoint.invoke, name, told()) for _ in range(2)]
    assert [each.result().json()["batch"] for each in both] == [2, 2]
    assert all(each.result().elapsed.total_seconds() < 10 for each in both)


def test_a_request_to_which_no_other_comes_is_handled_alone_after_the_delay(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "batch_size = 8\nmax_batch_delay_ms = 300")
    answer = endpoint.invoke(name, told())
    assert answer.json()["batch"] == 1
    assert answer.elapsed.total_seconds() >= 0.3


def test_an_unload_does_not_wait_for_a_batch_to_fill(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    name = load(endpoint, own, BEHAVIOUR, "batch_size = 8\nmax_batch_delay_ms = 30000")
    request = threads.submit(endpoint.invoke, name, told())
    assert measured(endpoint, lambda now: now("http_in_flight") == 1)
    unloaded = endpoint.unload(name)
    assert unloaded.status_code == 200 and unloaded.elapsed.total_seconds() < 10
    assert request.result().json()["batch"] == 1


def test_a_model_whose_prediction_is_its_own_is_asked_one_request_at_a_time(
    here: Yarded, threads: ThreadPoolExecutor
) -> None:
    own, endpoint = here
    name = load(endpoint, own, "echo", EIGHT + "\nmax_batch_delay_ms = 10000")
    requests = [threads.submit(endpoint.invoke, name, b"%d" % n) for n in range(20)]
    assert [each.result().content for each in requests] == [b"%d" % n for n in range(20)]
    assert Numbers(endpoint)("batches_total", model=name) == 0


def test_the_size_of_batches_may_be_set_for_all_models(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard(MODELYARD_BATCH_SIZE="4")
    held = Held(endpoint, threads, load(endpoint, own, BEHAVIOUR), tmp_path)
    for _ in range(5):
        held.add(told())
    assert [answer.json()["batch"] for answer in held.release()] == [4] * 4 + [1]


@pytest.fixture(scope="module")
def stacking_server(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    log = tmp_path_factory.mktemp("logs") / "stacking.log"
    settings = {**QUICK, "MODELYARD_PRELOAD": "sklearn,pytorch", "MODELYARD_GATEWAYS": "1"}
    with running(models_dir, log, settings) as own:
        yield own


def asked(endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, count: int) -> list[Any]:
    """The answers of requests of one, two, … rows that were sent at once."""
    headers = {"Content-Type": "application/json"}
    bodies = [np.full((n + 1, 3), n).tolist() for n in range(count)]
    requests = [
        threads.submit(endpoint.invoke, name, json.dumps(body).encode(), headers) for body in bodies
    ]
    return [each.result().json() for each in requests]


def test_rows_for_a_scikit_learn_model_are_stacked_and_each_gets_its_own_back(
    stacking_server: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],
    threads: ThreadPoolExecutor,
) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    endpoint, made = endpoint_of(stacking_server), stacking_server.models_dir / "stacked-sklearn"
    made.mkdir()
    model = LinearRegression().fit(np.eye(3), np.array([1.0, 10.0, 100.0]))
    joblib.dump(model, made / "model.joblib")
    (made / "modelyard.toml").write_text("batch_size = 4\nmax_batch_delay_ms = 10000\n")
    assert endpoint.load_url("stacked", str(made)).status_code == 200
    answers = asked(endpoint, threads, "stacked", 4)
    for number, answer in enumerate(answers):
        expected = model.predict(np.full((number + 1, 3), number))
        np.testing.assert_allclose(answer, expected, atol=1e-9)
    assert measured(endpoint, lambda now: now("batches_total", model="stacked") == 1)
    assert endpoint.unload("stacked").status_code == 200


def test_rows_for_a_torch_model_are_stacked_and_each_gets_its_own_back(
    stacking_server: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],
    threads: ThreadPoolExecutor,
) -> None:
    import torch

    endpoint, made = endpoint_of(stacking_server), stacking_server.models_dir / "stacked-torch"
    (made / "code").mkdir(parents=True)
    (made / "model.py").write_text(
        "import torch\n"
        "class Counts(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.ones(1))\n"
        "    def forward(self, x):\n"
        "        rows = torch.full((len(x), 1), float(len(x)))\n"
        "        return torch.cat([x.sum(1, keepdim=True) * self.weight, rows], 1)\n"
    )
    torch.save({"weight": torch.ones(1)}, made / "model.pt")
    (made / "modelyard.toml").write_text("batch_size = 4\nmax_batch_delay_ms = 10000\n")
    response = endpoint.load_url("stacked", str(made))
    assert response.status_code == 200, response.text
    answers = asked(endpoint, threads, "stacked", 4)
    assert answers == [[[3.0 * n, 10.0]] * (n + 1) for n in range(4)]
    assert measured(endpoint, lambda now: now("batches_total", model="stacked") == 1)
    assert endpoint.unload("stacked").status_code == 200


def test_a_bad_body_in_a_stacked_batch_fails_alone(
    stacking_server: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],
    threads: ThreadPoolExecutor,
) -> None:
    endpoint, made = endpoint_of(stacking_server), make_summing(stacking_server.models_dir)
    assert endpoint.load_url("summing", str(made)).status_code == 200
    headers = {"Content-Type": "application/json"}
    bodies = [b"[[1, 2, 3]]", b"[[1, 2", b"[[4, 5, 6]]", b"[[7, 8, 9, 10]]"]
    requests = [threads.submit(endpoint.invoke, "summing", body, headers) for body in bodies]
    good, bad, other, wider = [each.result() for each in requests]
    assert_error(bad, 400)
    assert (good.status_code, other.status_code) == (200, 200)
    np.testing.assert_allclose([good.json()[0], other.json()[0]], [6.0, 15.0])
    assert_error(wider, 400)
    assert endpoint.unload("summing").status_code == 200


def make_summing(models_dir: Path) -> Path:
    import joblib
    from sklearn.linear_model import LinearRegression

    made = models_dir / "summing"
    made.mkdir()
    joblib.dump(
        LinearRegression(fit_intercept=False).fit(np.eye(3), np.ones(3)), made / "model.joblib"
    )
    (made / "modelyard.toml").write_text("batch_size = 4\nmax_batch_delay_ms = 10000\n")
    return made
