"""How much memory a process and all that it started take.

Servers fork: a hundred workers that share one interpreter would count it a hundred times by their
resident sizes. The kernel's proportional size (PSS) gives each its part of what is shared, but
takes milliseconds per GiB to ask for. So each process is asked for it once when it is first seen
and again every few seconds, in a thread, and in between by how much its resident size has changed,
which costs microseconds: what ended since counts no more, what grew counts with what it grew.

Only anonymous memory counts; mapped files are page cache, which the kernel takes back.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from endpoint import process_tree
from endpoint.process_tree import Seen

_PAGE = os.sysconf("SC_PAGE_SIZE")

# What one call may spend on processes that are new to it; others count with all that they share.
_NEW_SECONDS = 0.004


@dataclass(frozen=True, slots=True)
class _Measured:
    """A process when it was asked: its share, and its resident size."""

    share: int
    resident: int


class TreeMemory:
    """Bytes that a process and its descendants take."""

    def __init__(self, pid: int, started: int) -> None:
        self._root = pid, started
        self._measured: dict[tuple[int, int], _Measured] = {}

    def read(self) -> int:
        """Now, within milliseconds; 0 when all are gone."""
        measured, deadline = self._measured, time.perf_counter() + _NEW_SECONDS
        total = 0
        for seen in process_tree.tree(*self._root):
            key = seen.pid, seen.started
            if key not in measured and time.perf_counter() < deadline:
                measured[key] = _measure(seen)
            then = measured.get(key, _Measured(0, 0))
            total += max(then.share + _resident(seen.pid) - then.resident, 0)
        return total

    def refresh(self) -> None:
        """Ask for all shares anew. Takes as long as it takes: for a thread."""
        everyone = process_tree.tree(*self._root)
        self._measured = {(seen.pid, seen.started): _measure(seen) for seen in everyone}


def _measure(seen: Seen) -> _Measured:
    return _Measured(_share(seen.pid), _resident(seen.pid))


def _share(pid: int) -> int:
    """Its part of the anonymous memory that it maps; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss_Anon:")), "x 0")
    return int(line.split()[1]) * 1024


def _resident(pid: int) -> int:
    """Anonymous memory that it maps, shared or not; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE
