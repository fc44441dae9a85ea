"""What the kernel knows about processes: who is alive, who belongs together, what they hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .polling import eventually

PROC = Path("/proc")


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:  # it ended while we looked
        return b""


def _state(pid: int) -> bytes:
    """As the kernel abbreviates it; empty for a process that is gone."""
    return _read(pid, "stat").rpartition(b")")[2][1:2]


def is_running(pid: int) -> bool:
    """False for a process that never was, is gone, or is only waiting to be reaped."""
    return _state(pid) not in (b"", b"Z", b"X")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process does nothing meanwhile; it may be killed."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: _state(pid) == b"T")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def marked(marker: str) -> set[int]:
    """The running processes whose environment at their last exec held ``marker``."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return {pid for pid in pids if marker.encode() in _read(pid, "environ") and is_running(pid)}


def tree(root: int) -> set[int]:
    """``root`` and all its descendants that are running."""
    found: set[int] = set()
    pending = [root]
    while pending:
        pid = pending.pop()
        if pid in found or not is_running(pid):
            continue
        found.add(pid)
        for task in _tasks(pid):
            pending += [int(child) for child in _read(pid, f"task/{task}/children").split()]
    return found


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(PROC / str(pid) / "task")  # noqa: PTH208
    except OSError:
        return []


def shared_out_bytes(pids: Iterable[int]) -> int:
    """The proportional set size of all ``pids``: shared pages are counted once."""
    return sum(
        int(line.split()[1]) * 1024
        for pid in pids
        for line in _read(pid, "smaps_rollup").splitlines()
        if line.startswith(b"Pss:")
    )
