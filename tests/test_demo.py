"""The demo from end to end, as a process of its own, with all that it starts gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parent.parent
LIMIT_SECONDS = 50


@dataclass(frozen=True)
class Demo:
    """A demo under way. ``marker`` is in the environment of all its processes."""

    process: subprocess.Popen[str]
    output: Path
    marker: str

    def shown(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def wait_until_shown(self, text: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while text not in self.shown():
            assert self.process.poll() is None and time.monotonic() < deadline, self.shown()
            time.sleep(0.02)

    def end(self) -> int:
        """Its exit code."""
        return self.process.wait(LIMIT_SECONDS)

    def running(self) -> dict[int, str]:
        """Its processes by pid, with their command lines."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if self.marker.encode() in (directory / "environ").read_bytes():
                    found[int(directory.name)] = (directory / "cmdline").read_text()
            except OSError:  # ended while we looked
                continue
        return found

    def nothing_left(self) -> bool:
        """Is everything gone, or goes within moments?"""
        deadline = time.monotonic() + 5
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.running()


class Starter:
    """Starts demos in one scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self.directory = scratch / "demo"
        self.started: list[Demo] = []
        self._scratch = scratch

    def __call__(self, *options: str) -> Demo:
        marker = f"demo-test-{uuid4().hex}"
        output = self._scratch / f"output-{len(self.started)}"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "examples.demo", "--directory", self.directory, *options],
                cwd=ROOT,
                env={**os.environ, "DEMO_TEST": marker},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(Demo(process, output, marker))
        return self.started[-1]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Starter]:
    """Starts the demo; whatever is left of it after the test is killed."""
    starter = Starter(tmp_path)
    yield starter
    for started in starter.started:
        for pid in started.running():
            os.kill(pid, signal.SIGKILL)
        started.process.wait()


def test_whole_tour(demo: Starter) -> None:
    started = demo()
    assert started.end() == 0, started.shown()
    shown = started.shown()
    assert '["setosa", "virginica"]' in shown
    assert '"digit": 3' in shown
    assert '"language": "de"' in shown
    for name in ("iris_sklearn", "digits_script", "languages_service"):
        assert re.search(rf"^  {name} .* \d+\.\d +\d+\.\d\d +\d+\.\d$", shown, re.MULTILINE), shown
    assert re.search(r"answers 500: FileNotFoundError: .*centroids", shown, re.DOTALL)
    old, new = re.findall(r"process (\d+)", shown)
    assert old != new
    assert re.search(r"still there: hoarder_1,", shown)
    assert re.search(r"hoarder_1 was asked for: it came back", shown)
    assert re.search(r"\n  hoarder_1: in memory since .*evicted once", shown, re.DOTALL)
    assert "loaded: none" in shown
    assert "exited with 0" in shown
    wide = [line for line in shown.splitlines() if len(line) > 80]
    assert all("/" in line for line in wide), wide  # paths are as long as they are
    assert started.nothing_left()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_keep_prints_lines_that_work_and_ctrl_c_ends_it(demo: Starter) -> None:
    started = demo("--keep")
    started.wait_until_shown("in another terminal")
    started.wait_until_shown('"model_name"')
    lines = started.shown().partition("7. ")[2].partition("\n")[2]
    script = lines.replace("curl ", "curl --silent --show-error --fail-with-body ")
    answers = subprocess.run(
        ["sh", "-ec", script], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert answers.returncode == 0, answers
    assert '["setosa", "virginica"]' in answers.stdout
    assert answers.stdout.count("loaded") == 2  # unloaded, then loaded
    started.process.send_signal(signal.SIGINT)
    assert started.end() == 0
    assert "exited with 0" in started.shown()
    assert started.nothing_left()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("1. Train", signal.SIGINT),
        ("2. Start", signal.SIGINT),
        ("3. Load", signal.SIGINT),
        ("3. Load", signal.SIGTERM),
    ],
)
def test_interrupted(demo: Starter, moment: str, number: signal.Signals) -> None:
    started = demo()
    started.wait_until_shown(moment)
    started.process.send_signal(number)
    # Python ends by the signal itself if that struck inside an exec(); a shell sees 130 either way.
    assert started.end() in (130, -signal.SIGINT), started.shown()
    assert "interrupted" in started.shown()
    assert "Traceback" not in started.shown()
    assert started.nothing_left()


def test_server_that_dies_is_explained(demo: Starter) -> None:
    started = demo("--keep")
    started.wait_until_shown("in another terminal")
    [server] = [pid for pid, command in started.running().items() if "/serve" in command]
    os.kill(server, signal.SIGKILL)
    assert started.end() == 1
    assert "signal 9" in started.shown()
    assert "server.log" in started.shown() and "modelyard" in started.shown()
    assert "examples/demo/" not in started.shown()  # no traceback of the demo's own
    assert started.nothing_left()


def test_port_in_use(demo: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = demo("--port", str(port))
        assert started.end() == 1
    assert f"port {port} cannot be used: Address already in use" in started.shown()
    assert "Traceback" not in started.shown()


def test_second_demo_in_the_same_directory(demo: Starter) -> None:
    first = demo("--keep")
    first.wait_until_shown("1. Train")
    second = demo()
    assert second.end() == 1
    assert "another demo is running" in second.shown()
    first.process.send_signal(signal.SIGINT)
    first.end()
    assert first.nothing_left()


def test_directory_of_somebody_else_is_left_alone(demo: Starter) -> None:
    demo.directory.mkdir()
    kept = demo.directory / "models"
    kept.touch()
    started = demo()
    assert started.end() == 1
    assert "no directory of a demo" in started.shown()
    assert kept.exists()
