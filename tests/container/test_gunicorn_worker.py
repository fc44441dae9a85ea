"""The HTTP processes of a real server: how many, with what limits, how they stop."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from ..contract.polling import eventually
from ..contract.processes import is_running
from ..model_server import inside
from ..model_server.conftest import Yard


def test_there_are_as_many_gateways_as_asked_for_and_all_answer(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="3")
    assert eventually(lambda: len(inside.gateways(own)) == 3)
    assert all(endpoint.ping().status_code == 200 for _ in range(30))


def test_a_gateway_has_no_framework_loaded(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="1")
    endpoint.loaded("echo")
    (gateway,) = inside.gateways(own)
    mapped = Path(f"/proc/{gateway}/maps").read_text()
    assert not any(name in mapped for name in ("numpy", "sklearn", "torch"))


def test_on_sigterm_a_request_finishes_while_new_connections_are_refused(
    yard: Yard,
    threads: ThreadPoolExecutor,
    tmp_path: Path,
) -> None:
    own, endpoint = yard()
    name = endpoint.loaded("sleeps")
    running = threads.submit(endpoint.invoke, name, f"1 {tmp_path / 'begun'}".encode())
    assert eventually((tmp_path / "begun").exists)
    everybody = own.processes()
    stopping = threads.submit(own.stop)

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", httpx.URL(own.base_url).port or 0), 1).close()
        except ConnectionRefusedError:
            return True
        return False

    assert eventually(refused)
    assert not running.done()
    answer = running.result()
    assert (answer.text, answer.headers["connection"]) == ("slept 1", "close")
    assert stopping.result() == 0
    assert eventually(lambda: not any(map(is_running, everybody)))


def test_a_json_log_is_json_whoever_writes_to_it(yard: Yard) -> None:
    own, _ = yard(MODELYARD_LOG_FORMAT="json")
    (killed,) = inside.gateways(own)
    inside.kill(killed)
    assert eventually(lambda: bool(inside.gateways(own) - {killed}))
    assert own.stop() == 0
    lines = own.log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []


def test_nothing_is_written_to_home(yard: Yard, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    _, endpoint = yard(HOME=str(home))
    assert endpoint.loaded("echo")
    assert list(home.iterdir()) == []
