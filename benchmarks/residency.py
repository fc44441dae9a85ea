"""Samples the memory of a server's processes: ``python -m benchmarks.residency PID SECONDS``.

Counted is anonymous memory, each page once: all that a process with children has (what its forks
still share with it is its own), and of a process without children what is private and dirty. To
look 20 times a second costs little only if not everything is measured each time: the kernel's page
tables are walked for processes younger than a second, and once a second for each other one; in
between, the change of its resident pages is added to what was measured.

A process of its own, so that the traffic does not delay the looks. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.processes import PROC, Process, ProcessTree, memory_of

LOOK_SECONDS = 0.05
YOUNG_SECONDS = 1.0
REMEASURE_LOOKS = 20
PATIENCE_SECONDS = 30
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@dataclass
class Measured:
    """One process: when it was seen first, what it took when it was measured, its pages then."""

    seen: float
    look: int = -1
    private: float = 0.0
    anonymous: float = 0.0


class Residency:
    """The memory of a tree of processes, look by look, in MiB."""

    def __init__(self, root: int) -> None:
        self._tree = ProcessTree(root)
        self._known: dict[tuple[int, int], Measured] = {}
        self._looks = 0

    def look(self) -> float:
        """What all processes take now."""
        members = self._tree.alive()
        parents = {process.parent for process in members}
        self._looks += 1
        before, self._known = self._known, {}
        total = 0.0
        for process in members:
            key = (process.pid, process.start_ticks)
            measured = before.get(key) or Measured(time.monotonic())
            self._known[key] = measured
            total += self._one(process, measured, is_parent=process.pid in parents)
        return total

    def _one(self, process: Process, measured: Measured, *, is_parent: bool) -> float:
        anonymous = _anonymous_mib(process.pid)
        if is_parent:
            return anonymous
        is_young = time.monotonic() - measured.seen < YOUNG_SECONDS
        is_due = (self._looks + process.pid) % REMEASURE_LOOKS == 0
        if measured.look < 0 or is_young or is_due:
            measured.look = self._looks
            measured.private = memory_of(process.pid).dirty
            measured.anonymous = anonymous
        return max(measured.private + anonymous - measured.anonymous, 0.0)


def _anonymous_mib(pid: int) -> float:
    try:
        fields = (PROC / str(pid) / "statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[1]) - int(fields[2])) * PAGE_MIB


def sample(root: int, seconds: float) -> Iterable[float]:
    """One look each 50 ms, or as soon after that as the look before is over."""
    residency = Residency(root)
    begin = due = time.monotonic()
    while time.monotonic() - begin < seconds:
        yield residency.look()
        due = max(due + LOOK_SECONDS, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0.0))


@contextmanager
def sampled(root: int, seconds: float) -> Iterator[list[float]]:
    """Sample in a process beside the block; when it ends, the list holds what was seen."""
    command = [sys.executable, "-m", "benchmarks.residency", str(root), str(seconds)]
    seen: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield seen
            printed, _ = sampler.communicate(timeout=seconds + PATIENCE_SECONDS)
            seen += json.loads(printed)
        except BaseException:
            sampler.kill()
            raise


if __name__ == "__main__":
    print(json.dumps(list(sample(int(sys.argv[1]), float(sys.argv[2])))), flush=True)
