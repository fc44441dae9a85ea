"""``serve`` and ``modelyard serve`` as an image runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..contract.polling import eventually

BIN = Path(sys.executable).parent
COMMANDS = {
    "serve": [BIN / "serve"],
    "modelyard serve": [BIN / "modelyard", "serve"],
    "python -m container": [sys.executable, "-m", "container"],
    "python -m modelyard": [sys.executable, "-m", "modelyard", "serve"],
}


def environment(**variables: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAGEMAKER_", "MODELYARD_"))
    }
    return {**inherited, "MODELYARD_PRELOAD": "none", **variables}


def serve(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``serve`` to its end, which must come soon."""
    return subprocess.run(
        [BIN / "serve", *options],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line that says why, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("modelyard cannot start: ")
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port: int = other.getsockname()[1]
        yield port


def test_a_port_in_use_is_told(busy_port: int) -> None:
    done = serve("--host", "127.0.0.1", "--port", str(busy_port))
    assert_refused(done, f"127.0.0.1:{busy_port}", "in use")


def test_a_host_that_does_not_exist_is_told() -> None:
    assert_refused(serve("--host", "256.256.256.256", "--port", "0"), "256.256.256.256")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--queue-size", "0"], ["queue_size", "1 or more"]),
        (["--queue-size", "many"], ["--queue-size='many'", "whole number"]),
        (["--preload", "sklaern"], ["sklaern", "sklearn"]),
        (["--log-level", "loud"], ["log_level", "DEBUG"]),
        (["--model-roots", "here"], ["model_roots", "absolute"]),
        (["--device", "gpu"], ["device", "cuda:N"]),
        (["--min-workers", "2", "--max-workers", "1"], ["max_workers", "min_workers"]),
    ],
)
def test_a_bad_option_is_told(options: list[str], words: list[str]) -> None:
    assert_refused(serve(*options), *words)


def test_a_bad_variable_is_told() -> None:
    done = serve(SAGEMAKER_MODEL_SERVER_WORKERS="two")
    assert_refused(done, "SAGEMAKER_MODEL_SERVER_WORKERS='two'")


def test_an_unknown_option_is_told_and_abbreviations_are_unknown() -> None:
    for option in ("--nonsense", "--queue"):
        done = serve(option, "1")
        assert done.returncode == 2
        assert option in done.stderr


def test_a_run_directory_that_cannot_be_used_is_told() -> None:
    assert_refused(serve("--port", "0", "--run-dir", "/tmp/" + "d" * 100), "run_dir")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_help_names_each_option_with_default_and_variable(command: list[str]) -> None:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--min-workers VALUE" in done.stdout
    assert done.stdout.startswith(("usage: serve [", "usage: modelyard serve ["))
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" in done.stdout


def test_modelyard_without_a_command_says_how() -> None:
    for arguments in ([], ["sreve"]):
        command = [str(BIN / "modelyard"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "serve, check, pack" in done.stderr


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_each_command_serves_until_it_is_told_to_stop(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*command, "--port", str(port), "--host", "127.0.0.1", "--multi-model", "true"],
            env=environment(),
            stderr=log,
        ) as process,
    ):
        try:
            assert eventually(lambda: answers(port))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
        log.seek(0)
        assert b"Traceback" not in log.read()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200
    except httpx.TransportError:
        return False


def test_port_0_picks_one_and_a_sigterm_at_once_still_ends_it() -> None:
    with subprocess.Popen(
        [BIN / "serve", "--port", "0", "--multi-model", "true"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert eventually(lambda: bool(listening(process.pid)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def listening(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds open."""
    try:
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return set()
    return {found[1] for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}
