"""Whether it was the kernel, out of memory, that killed a process: its counters say so.

A process killed for lack of memory looks like any that got SIGKILL.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")

# Deaths so soon after one for lack of memory are of the same cause.
_SAME_CAUSE_SECONDS = 1.0


def oom_counters(own: str, mounted: Path = _CGROUPS) -> list[Path]:
    """Where kills are counted, the nearest first; ``own`` is the text of ``/proc/self/cgroup``.

    In a container the group's own files lie at the root of what is mounted; else at its path.
    """
    found = []
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = mounted, "memory.events"
        elif "memory" in controllers.split(","):
            root, name = mounted / "memory", "memory.oom_control"
        else:
            continue
        found += [root / path.lstrip("/") / name, root / name]
    return [*dict.fromkeys(found), Path("/proc/vmstat")]


def _own_group() -> str:
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


class OomKills:
    """Kills for lack of memory in this control group; where there is none, on the machine."""

    def __init__(self, counters: Sequence[Path] | None = None) -> None:
        places = oom_counters(_own_group()) if counters is None else counters
        self._counter = next((path for path in places if _count(path) is not None), None)
        self._seen = self.count()
        self._until = 0.0

    def count(self) -> int:
        """How many there have been; 0 where nobody says."""
        return (_count(self._counter) or 0) if self._counter is not None else 0

    def is_likely(self) -> bool:
        """Whether a process that has just died of SIGKILL was killed for lack of memory."""
        before, self._seen = self._seen, self.count()
        now = time.monotonic()
        if self._seen > before:
            self._until = now + _SAME_CAUSE_SECONDS
        return now < self._until


def _count(path: Path) -> int | None:
    """The line ``oom_kill N`` of a file of counters; None when it has none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words[:1] == ["oom_kill"]), None)
