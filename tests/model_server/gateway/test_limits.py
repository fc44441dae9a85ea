"""Time limits that models have of their own: for requests in hand and for those that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ...contract.endpoint import Endpoint, assert_error
from ...contract.polling import eventually
from ...contract.server import OwnServer, Server
from .. import inside
from ..conftest import QUICK
from ..measured import measured
from ..told import load, running

Yarded = tuple[OwnServer, Endpoint]
SHORT, LONG = "request_timeout_seconds = 1", "request_timeout_seconds = 30"
SERVERS = 3.0


@pytest.fixture(scope="module")
def limited_server(
    models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    """A limit of 3 s for models that say nothing, and gateways that must all hear of others."""
    log = tmp_path_factory.mktemp("logs") / "limits.log"
    settings = {"MODELYARD_REQUEST_TIMEOUT_SECONDS": str(SERVERS), "MODELYARD_GATEWAYS": "2"}
    with running(models_dir, log, {**QUICK, **settings}) as own:
        yield own


@pytest.fixture
def here(
    limited_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(limited_server)
    yield limited_server, made
    made.unload_all()


def begin_to_sleep(
    endpoint: Endpoint, threads: ThreadPoolExecutor, name: str, seconds: float, flag: Path
) -> Callable[[], tuple[int, str, float]]:
    """Send a request that sleeps, return when it is in hand; call for status, text, seconds."""
    request = threads.submit(endpoint.invoke, name, f"{seconds} {flag}".encode())
    assert eventually(flag.exists)

    def result() -> tuple[int, str, float]:
        response = request.result()
        return response.status_code, response.text, response.elapsed.total_seconds()

    return result


def test_a_model_may_have_a_shorter_limit_than_the_server(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", SHORT)
    before = inside.pids(endpoint, name)
    response = endpoint.invoke(name, b"60")
    assert "more than 1 seconds" in assert_error(response, 504)
    assert endpoint.invoke(name, b"0").text == "slept 0"
    assert inside.pids(endpoint, name).isdisjoint(before)


def test_a_model_may_have_a_longer_limit_than_the_server(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", LONG)
    before = inside.pids(endpoint, name)
    assert endpoint.invoke(name, b"4").text == "slept 4"
    assert inside.pids(endpoint, name) == before


def test_other_models_keep_the_servers_limit(here: Yarded) -> None:
    own, endpoint = here
    load(endpoint, own, "sleeps", LONG)
    load(endpoint, own, "sleeps", SHORT)
    name = endpoint.loaded("sleeps")
    assert endpoint.invoke(name, b"1").text == "slept 1"
    assert "more than 3 seconds" in assert_error(endpoint.invoke(name, b"60"), 504)


def test_a_request_that_waits_ends_at_its_models_shorter_limit(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, "streams_as_told", "request_timeout_seconds = 1.5")
    # Each chunk is quick enough for the limit, all together are not.
    steps = '{"steps": [' + '"x", {"sleep": 0.2}, ' * 40 + f'{{"touch": "{tmp_path}/end"}}]}}'
    streaming = threads.submit(endpoint.invoke, name, steps.encode())
    assert measured(endpoint, lambda now: now("model_in_flight", model=name) == 1)
    waiting = endpoint.invoke(name, b'{"steps": ["y"]}')
    assert "more than 1.5 seconds" in assert_error(waiting, 504)
    assert not (tmp_path / "end").exists()
    assert streaming.result().text == "x" * 40


def test_a_request_that_waits_may_wait_for_its_models_longer_limit(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", LONG)
    first = begin_to_sleep(endpoint, threads, name, 3.6, tmp_path / "begun")
    waiting = endpoint.invoke(name, b"0")
    assert waiting.text == "slept 0"
    assert waiting.elapsed.total_seconds() > SERVERS
    assert first()[:2] == (200, "slept 3.6")


def test_every_request_is_held_to_the_limit_of_the_model_as_it_is_loaded_now(
    here: Yarded,
) -> None:
    own, endpoint = here
    made = own.models_dir / "changes-its-limit"
    (made / "code").mkdir(parents=True)
    (made / "code" / "inference.py").write_text(
        "import time\n"
        "def model_fn(d): return None\n"
        "def transform_fn(m, body, c, a): time.sleep(float(body)); return 'done'\n"
    )
    for settings, sleeps, status in (
        (SHORT, b"2", 504),
        (LONG, b"3.5", 200),
        ("", b"0.8", 200),
        (SHORT, b"2", 504),
    ):
        (made / "modelyard.toml").write_text(settings + "\n")
        assert endpoint.load_url("changing", str(made)).status_code == 200
        assert endpoint.invoke("changing", sleeps).status_code == status
        assert endpoint.unload("changing").status_code == 200


def test_two_workers_over_a_limit_are_both_replaced(
    here: Yarded, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", f"min_workers = 2\n{SHORT}")
    before = inside.pids(endpoint, name)
    both = [begin_to_sleep(endpoint, threads, name, 60, tmp_path / f"{n}") for n in range(2)]
    assert [each()[0] for each in both] == [504, 504]
    assert eventually(lambda: len(inside.pids(endpoint, name) - before) == 2)
    assert endpoint.invoke(name, b"0").text == "slept 0"


def test_the_limit_is_told_with_the_model(here: Yarded) -> None:
    own, endpoint = here
    name = load(endpoint, own, "sleeps", SHORT)
    assert endpoint.get(name).json()["settings"]["requestTimeoutSeconds"] == 1
