"""What the kernel knows about processes: who is alive, who belongs together, what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:  # it ended while we looked
        return b""


def is_running(pid: int) -> bool:
    """False for a process that never was, is gone, or is only waiting to be reaped."""
    stat = _read(pid, "stat")
    return bool(stat) and stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


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
