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
LIMIT_SECONDS = 200

pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 60)


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
        deadline = time.monotonic() + 40
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.running()


class Starter:
    """Starts demos in one scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self.directory = scratch / "demo"
        self.started: list[Demo] = []
        self._scratch = scratch

    def __call__(self, *options: str, **environment: str) -> Demo:
        marker = f"demo-test-{uuid4().hex}"
        output = self._scratch / f"output-{len(self.started)}"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "examples.demo", "--directory", self.directory, *options],
                cwd=ROOT,
                env={**os.environ, **environment, "DEMO_TEST": marker},
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
    shutil.rmtree(starter.directory, ignore_errors=True)  # a gigabyte


def test_whole_tour(demo: Starter) -> None:
    # What the user's shell says of AWS is not asked.
    started = demo("--seconds", "6", AWS_ENDPOINT_URL_S3="http://127.0.0.1:1", AWS_PROFILE="none")
    assert started.end() == 0, started.shown()
    shown = started.shown()
    assert re.search(r"export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=http://127\.0\.0\.1:\d+\n", shown)
    for framework in ("sklearn", "xgboost", "onnx"):
        assert re.search(rf"^  {framework} +(\w+ ){{3}}\w+$", shown, re.MULTILINE), shown
    assert re.search(r"^  1\.[01] +serving +\w+ .* [1-9]\d* +\d+$", shown, re.MULTILINE), shown
    assert re.search(r"^  1\.[01]: evicted (\w+) for \w+: \d+ MiB, reload", shown, re.MULTILINE)
    assert re.search(r"^  cold, .* p50 \d+\.\d ms, p99 \d+\.\d ms$", shown, re.MULTILINE), shown
    assert re.search(r"^  warm, .* p50 \d+\.\d ms, p99 \d+\.\d ms$", shown, re.MULTILINE), shown
    said = " ".join(shown.split())
    assert re.search(r"modelyard why, of (\w+) on instance 1\.[01]: \1: ", said)
    assert re.search(r"s later: spill, a copy on clinics\.AllTraffic\.1\.[01] ", said)
    assert re.search(r"a copy of accra on clinics\.AllTraffic\.1\.[01] is withdrawn", said)
    assert re.search(r"tokyo\.tar\.gz is uploaded; its first answer took \d+ ms", said)
    assert re.search(r"berlin\.tar\.gz is deleted; .* told ValidationError: .*berlin", said)
    assert re.search(
        r"serves in its place \d+ requests were answered meanwhile, with 0 errors", said
    )
    assert set(re.findall(r"(\d+) errors", said)) == {"0"}
    assert "modelyard down … " in shown
    wide = [line for line in shown.splitlines() if len(line) > 80]
    assert all("/" in line for line in wide), wide  # paths are as long as they are
    assert "\x1b" not in shown  # this is no terminal
    assert started.nothing_left(), (started.running(), started.shown())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_keep_prints_lines_that_work_the_last_of_which_ends_it(demo: Starter) -> None:
    started = demo("--keep", "--seconds", "2")
    assert started.end() == 0, started.shown()
    script = started.shown().partition("\n8. ")[2].partition("\n")[2]
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    second = demo()
    assert second.end() == 1
    assert "modelyard down" in second.shown()
    answers = subprocess.run(
        ["sh", "-ec", script], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert answers.returncode == 0, answers
    assert "InService" in answers.stdout
    assert "accra.tar.gz 1" in answers.stdout  # its size in the bucket
    assert '"copy_withdrawn"' in answers.stdout
    assert started.nothing_left(), (started.running(), started.shown())


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("1. modelyard up", signal.SIGINT),
        ("training 12", signal.SIGINT),
        ("creating it", signal.SIGTERM),
        ("4. ", signal.SIGINT),
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
    assert started.nothing_left(), (started.running(), started.shown())


def test_endpoint_that_dies_is_explained(demo: Starter) -> None:
    started = demo()
    started.wait_until_shown("creating it")
    [endpoint] = [pid for pid, command in started.running().items() if "up_process" in command]
    os.kill(endpoint, signal.SIGKILL)
    assert started.end() == 1
    assert "\ndemo: " in started.shown()
    assert "endpoint/log; it ends with:" in started.shown()
    assert "examples/demo/" not in started.shown().partition("\ndemo: ")[2]  # no traceback
    assert started.nothing_left(), (started.running(), started.shown())


def test_port_in_use(demo: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = demo("--port", str(port))
        assert started.end() == 1
    assert f":{port} (Address already in use)" in started.shown()
    assert "Traceback" not in started.shown()
    assert started.nothing_left(), (started.running(), started.shown())


def test_second_demo_in_the_same_directory(demo: Starter) -> None:
    first = demo()
    first.wait_until_shown("1. ")
    second = demo()
    assert second.end() == 1
    assert "another demo is running" in second.shown()
    first.process.send_signal(signal.SIGINT)
    first.end()
    assert first.nothing_left()


def test_directory_of_somebody_else_is_left_alone(demo: Starter) -> None:
    demo.directory.mkdir()
    kept = demo.directory / "archives"
    kept.touch()
    started = demo()
    assert started.end() == 1
    assert "no directory of a demo" in started.shown()
    assert kept.exists()


def test_directory_that_cannot_be_made(demo: Starter) -> None:
    demo.directory.touch()
    started = demo()
    assert started.end() == 1
    assert "cannot be used (File exists)" in started.shown()
    assert "Traceback" not in started.shown()
