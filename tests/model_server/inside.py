"""Which process of a server is which."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ..contract.endpoint import Endpoint
from ..contract.polling import eventually
from ..contract.processes import is_running
from ..contract.server import OwnServer


def parent_of(pid: int) -> int:
    """Its parent's pid; 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    """Its command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _running(own: OwnServer, text: str) -> set[int]:
    return {pid for pid in own.processes() if text in command_of(pid)}


def zygotes(own: OwnServer) -> set[int]:
    """The zygotes, which are the controller's children."""
    found = _running(own, "model_server.processes.zygote")
    return {pid for pid in found if parent_of(pid) == own.process.pid}


def master(own: OwnServer) -> int:
    """Gunicorn's master; 0 while there is none."""
    found = _running(own, "-m container.gunicorn_main")
    return next((pid for pid in found if parent_of(pid) == own.process.pid), 0)


def gateways(own: OwnServer) -> set[int]:
    """The gateways, which are the master's children."""
    parent = master(own)
    return {
        pid
        for pid in _running(own, "-m container.gunicorn_main")
        if parent and parent_of(pid) == parent
    }


def workers(endpoint: Endpoint, name: str) -> list[dict[str, Any]]:
    """What the server says of the model's processes."""
    found: list[dict[str, Any]] = endpoint.get(name).json()["workers"]
    return found


def pids(endpoint: Endpoint, name: str) -> set[int]:
    """The pids of the model's processes."""
    return {worker["pid"] for worker in workers(endpoint, name)}


def kill(pid: int) -> None:
    """SIGKILL, and wait until the kernel has carried it out."""
    assert pid > 0  # 0 would be our own process group
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(pid))
