"""Whether it was the kernel, out of memory, that killed a process: its counters say so.

A process killed for lack of memory looks like any that got SIGKILL.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from model_server.cgroups import oom_counters

# Deaths so soon after one for lack of memory are of the same cause.
_SAME_CAUSE_SECONDS = 1.0


class OomKills:
    """Kills for lack of memory in this control group; where nobody counts these, on the machine."""

    def __init__(self, counters: Iterable[Path] | None = None) -> None:
        places = oom_counters() if counters is None else counters
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
