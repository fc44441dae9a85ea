"""A server under test: one that we start, or one that somebody else started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from .polling import eventually
from .processes import is_running, marked, tree
from .raw import RawConnection

PROBE_SECONDS = 2.0  # which the platform gives for an answer
STOP_SECONDS = 25.0  # the platform kills 30 s after SIGTERM


@dataclass(frozen=True)
class Server:
    """Where it listens and which directory of models it can see."""

    base_url: str
    models_dir: Path

    def connect(self) -> RawConnection:
        """A new connection to it, without any client library in between."""
        parts = urlsplit(self.base_url)
        return RawConnection(parts.hostname or "localhost", parts.port or 80)

    def ping_status(self) -> int:
        """The status of GET /ping, or 0 while nobody answers."""
        try:
            return httpx.get(f"{self.base_url}/ping", timeout=2.0, verify=False).status_code
        except httpx.TransportError:
            return 0


@dataclass(frozen=True)
class OwnServer(Server):
    """A ``serve`` process of ours, with all that descends from it."""

    process: subprocess.Popen[bytes]
    log: Path
    marker: str = field(default="")

    def processes(self) -> set[int]:
        """All that was started for this server and still runs, orphans included."""
        return marked(self.marker) | tree(self.process.pid)

    def stop(self) -> int:
        """SIGTERM, wait, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Clear away whatever still runs; harmless after a clean stop."""
        for pid in self.processes():
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def log_tail(self) -> str:
        """The end of what the server printed, for messages of failed assertions."""
        return self.log.read_text(errors="replace")[-1500:]


def start(models_dir: Path, log: Path, settings: Mapping[str, str]) -> OwnServer:
    """Start ``serve`` on a free port; returns at once, before it is ready."""
    port = _free_port()
    marker = f"CONTRACT_RUN={uuid4().hex}"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAGEMAKER_", "MODELYARD_"))
    }
    name, _, value = marker.partition("=")
    # What one server learns must not change what another one does.
    own = {"SAGEMAKER_BIND_TO_PORT": str(port), "MODELYARD_LEARNED_SIZES_FILE": ""}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("serve")],
            env={**inherited, **own, name: value, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return OwnServer(f"http://127.0.0.1:{port}", models_dir, process, log, marker)


def wait_until_healthy(server: OwnServer) -> None:
    """Return once /ping is 200; an AssertionError with the log if that never happens."""

    def settled() -> bool:
        return server.process.poll() is not None or server.ping_status() == 200

    assert eventually(settled, within_seconds=60), f"never healthy:\n{server.log_tail()}"
    assert server.process.poll() is None, f"ended at start:\n{server.log_tail()}"


def stop_cleanly(server: OwnServer) -> None:
    """SIGTERM must end it with 0 and leave no process behind."""
    try:
        before = server.processes()
        code = server.stop()
        assert code == 0, f"exit code {code}:\n{server.log_tail()}"

        def nobody_left() -> bool:
            return not server.processes() and not any(map(is_running, before))

        assert eventually(nobody_left), f"left running: {server.processes()}"
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
