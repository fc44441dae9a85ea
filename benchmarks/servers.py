"""The two servers, started and spoken to by the same code; they differ in command and settings."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.models import Model
from benchmarks.processes import ProcessTree

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
REQUEST_SECONDS = 300.0
STOP_SECONDS = 15.0
LEAVE_SECONDS = 5.0
HURRIED_LEAVE_SECONDS = 0.5  # where nobody counts what is left
POLL_SECONDS = 0.005
PORTS = range(20_000, 30_000)


class BenchmarkError(Exception):
    """A server did not do what was to be measured; the number would mean nothing."""


@dataclass(frozen=True)
class Contender:
    """How to start one server. ``{port}`` and ``{directory}`` are filled in at each start."""

    name: str
    command: tuple[str, ...]
    settings: Mapping[str, str]

    def having(self, settings: Mapping[str, str]) -> Contender:
        """The same with more settings."""
        return replace(self, settings={**self.settings, **settings})


def modelyard(model_root: Path) -> Contender:
    """Ours, as its image starts it."""
    return Contender(
        "Modelyard",
        (str(Path(sys.executable).with_name("serve")),),
        {
            "MODELYARD_MODEL_ROOTS": str(model_root),
            "MODELYARD_MIN_WORKERS": "1",
            "MODELYARD_ENVIRONMENTS_DIR": "{directory}/environments",
            "MODELYARD_LEARNED_SIZES_FILE": "{directory}/sizes.json",
        },
    )


def multi_model_server() -> Contender:
    """AWS multi-model-server, as AWS's inference toolkit starts it in multi-model mode."""
    scripts = ROOT / "benchmarks" / "mms"
    environment = ROOT / ".venv-mms" / "bin"
    return Contender(
        "multi-model-server",
        (str(environment / "python"), str(scripts / "start.py"), "{directory}/mms.properties"),
        {
            "PATH": f"{environment}:{os.environ['PATH']}",
            "PYTHONPATH": str(scripts),
            "SAGEMAKER_HANDLER": f"{scripts}/mms_handler.py:handle",
            "SAGEMAKER_BASE_DIR": "{directory}",
            "LOG_LOCATION": "{directory}",
            "METRICS_LOCATION": "{directory}",
            "TEMP": "{directory}",
        },
    )


class Server:
    """One start of a contender. On leaving the ``with`` block no process of it is left."""

    def __init__(self, contender: Contender, directory: Path) -> None:
        self.name = contender.name
        self.port = free_port()
        self.directory = directory
        self.start_seconds = 0.0
        directory.mkdir(parents=True)
        values = {"port": self.port, "directory": directory}
        command = [part.format(**values) for part in contender.command]
        settings = {
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(directory),
            "SAGEMAKER_MULTI_MODEL": "true",
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
        }
        settings |= {key: value.format(**values) for key, value in contender.settings.items()}
        self._log = directory / "server.log"
        with self._log.open("wb") as log:
            begin = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.tree = ProcessTree(self._process.pid)
        try:
            self._wait_for_ping(begin + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(HURRIED_LEAVE_SECONDS)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def load(self, model: Model, **options: Any) -> None:
        """POST /models; back when the model can serve. ``options`` go along with the request."""
        wanted = {"model_name": model.name, "url": str(model.directory), **options}
        self._expect_200("POST", "/models", json.dumps(wanted).encode(), "application/json")

    def describe(self, model: Model) -> Any:
        """What GET /models/NAME says."""
        return json.loads(self._expect_200("GET", f"/models/{model.name}"))

    def metrics(self) -> str:
        """What GET /metrics says."""
        return self._expect_200("GET", "/metrics").decode()

    def load_and_invoke(self, model: Model) -> bytes:
        """Until the first answer."""
        self.load(model)
        return self.invoke(model)

    def warm_up(self, model: Model) -> None:
        """Load, ask and unload ``model``, as both servers get to do before they are measured."""
        self.load_and_invoke(model)
        self.unload(model)

    def invoke(self, model: Model) -> bytes:
        path = f"/models/{model.name}/invoke"
        return self._expect_200("POST", path, model.body, model.content_type)

    def unload(self, model: Model) -> None:
        self._expect_200("DELETE", f"/models/{model.name}")

    def stop(self, leave_seconds: float = LEAVE_SECONDS) -> int:
        """SIGTERM, then time to leave, then SIGKILL; return how many had to be killed.

        ``leave_seconds``: how long processes may live on when the server's first one has gone.
        """
        self.tree.alive()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        deadline = time.monotonic() + leave_seconds
        while self.tree.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.tree.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS)
        return left

    def _wait_for_ping(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                break
            with suppress(OSError, http.client.HTTPException):
                if self._request("GET", "/ping")[0] == 200:
                    return
            time.sleep(POLL_SECONDS)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise BenchmarkError(f"{self.name} did not start:\n{tail}")

    def _expect_200(self, method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
        status, answer = self._request(method, path, body, kind)
        if status != 200:
            text = answer[:500].decode(errors="replace")
            raise BenchmarkError(f"{self.name}: {method} {path} answered {status}: {text}")
        return answer

    def _request(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def free_port() -> int:
    """A free port below the ephemeral range; multi-model-server refuses those above 49151."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise BenchmarkError("no free port")
