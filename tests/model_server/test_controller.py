"""The controller dies, stops, and warms up what it was told to."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ..contract.endpoint import assert_error
from ..contract.polling import eventually
from ..contract.processes import is_running
from ..contract.server import OwnServer
from . import inside
from .conftest import Yard
from .measured import Numbers, measured

BUSY = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    open(body.decode(), "w").close()
    return str(pow(7, 10**9, 10**400000 + 1))
"""


def add_model(models_dir: Path, name: str, code: str) -> str:
    """Put a model with this script where servers see it."""
    script = models_dir / name / "code" / "inference.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(code)
    return str(models_dir / name)


def test_when_the_controller_is_killed_all_leave_within_two_seconds(
    short_path: Path, yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="2", MODELYARD_RUN_DIR=str(short_path / "r"))
    endpoint.loaded("echo")
    endpoint.load_url("busy", add_model(own.models_dir, "busy-in-c", BUSY))
    stuck = threads.submit(endpoint.invoke, "busy", str(tmp_path / "begun").encode())
    assert eventually((tmp_path / "begun").exists)
    everybody = own.processes()
    assert len(everybody) >= 6  # controller, master, 2 gateways, zygote, 2 workers
    own.process.kill()
    own.process.wait()
    assert eventually(lambda: not any(map(is_running, everybody)))
    with pytest.raises(httpx.TransportError):
        stuck.result()


def test_a_stop_leaves_no_run_directory(yard: Yard, tmp_path: Path) -> None:
    run_dir = Path("/tmp") / f"modelyard-test-{os.getpid()}"
    own, endpoint = yard(MODELYARD_RUN_DIR=str(run_dir))
    endpoint.loaded("echo")
    assert (run_dir / "control.sock").is_socket()
    assert len(list((run_dir / "m").iterdir())) == 1
    assert own.stop() == 0
    assert not run_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_stop_and_a_second_one_harms_nobody(yard: Yard, number: int) -> None:
    own, endpoint = yard()
    endpoint.loaded("echo")
    own.process.send_signal(number)
    own.process.send_signal(number)
    assert own.process.wait(60) == 0
    assert eventually(lambda: not own.processes())


def frameworks_of(own: OwnServer) -> set[str]:
    """What the living zygotes were started for."""
    return {
        json.loads(inside.command_of(pid).split("model_server.processes.zygote ", 1)[1])[
            "framework"
        ]
        for pid in inside.zygotes(own)
    }


def test_without_preloading_a_zygote_starts_with_the_first_load(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_PRELOAD="none")
    assert measured(
        endpoint, lambda now: now("http_requests_total", route="/ping", status="200") > 0
    )
    assert frameworks_of(own) == set()
    assert endpoint.load("echo", "echo").status_code == 200
    assert frameworks_of(own) == {"python"}


def test_a_list_is_preloaded_and_nothing_else(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_PRELOAD="sklearn,python")
    assert eventually(lambda: Numbers(endpoint)("zygote_bytes", framework="python") > 0)
    assert frameworks_of(own) == {"sklearn", "python"}
    assert Numbers(endpoint)("zygote_bytes", framework="sklearn") > 0


def test_auto_stays_within_a_tenth_of_the_memory_limit(yard: Yard) -> None:
    own, endpoint = yard(MODELYARD_PRELOAD="auto", MODELYARD_MEMORY_LIMIT_BYTES=str(600 << 20))
    assert eventually(lambda: Numbers(endpoint)("zygote_bytes", framework="python") > 0)
    assert eventually(lambda: own.log.read_text().count("not preloading") == 2)
    assert frameworks_of(own) == {"python"}


def test_an_endless_preload_does_not_keep_others_from_loading(yard: Yard, tmp_path: Path) -> None:
    package = tmp_path / "shadows" / "sklearn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import time; time.sleep(600)")
    own, endpoint = yard(MODELYARD_PRELOAD="sklearn", PYTHONPATH=str(package.parent))
    assert own.ping_status() == 200
    assert endpoint.load("echo", "echo").status_code == 200
    began = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - began < 10


def test_a_framework_that_cannot_be_imported_fails_the_loads_that_need_it(
    yard: Yard, tmp_path: Path
) -> None:
    package = tmp_path / "shadows" / "sklearn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this library is broken')")
    own, endpoint = yard(PYTHONPATH=str(package.parent))
    url = add_model(own.models_dir, "wants-sklearn", "import sklearn\ndef model_fn(d): return 1\n")
    for _ in range(2):
        message = assert_error(endpoint.load_url("wants", url), 503)
        assert "this library is broken" in message
    assert endpoint.names() == set()
    assert endpoint.load("echo", "echo").status_code == 200


def test_a_controller_that_is_stopped_for_a_while_costs_no_invoke(yard: Yard) -> None:
    own, endpoint = yard()
    name = endpoint.loaded("echo")
    os.kill(own.process.pid, signal.SIGSTOP)
    try:
        assert endpoint.invoke(name, b"x").content == b"x"
        assert_error(endpoint.ping(), 503)
    finally:
        os.kill(own.process.pid, signal.SIGCONT)
    assert endpoint.ping().status_code == 200
