"""The processes of a server under test, read from /proc: who they are, what memory they hold."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MIB = 1024.0  # smaps_rollup counts in KiB


@dataclass(frozen=True)
class Process:
    """One process; the start time tells it from a later one with the same id."""

    pid: int
    start_ticks: int
    parent: int
    session: int


@dataclass(frozen=True)
class Memory:
    """MiB. ``pss`` splits shared pages among their users, ``private`` has no other user.

    ``anonymous`` is the part of ``pss``, and ``dirty`` of ``private``, that is no copy of a file.
    """

    pss: float = 0.0
    private: float = 0.0
    anonymous: float = 0.0
    dirty: float = 0.0

    def __add__(self, other: Memory) -> Memory:
        return Memory(
            self.pss + other.pss,
            self.private + other.private,
            self.anonymous + other.anonymous,
            self.dirty + other.dirty,
        )


class ProcessTree:
    """A root's descendants and its session, orphans and those who left the session included.

    A process that left both is still known if an earlier look saw it.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._known: dict[int, int] = {}

    def alive(self) -> list[Process]:
        """Every member that runs now; zombies do not count, they hold nothing."""
        running = _running()
        members: dict[int, Process] = {}
        for process in sorted(running.values(), key=lambda process: process.start_ticks):
            if self._belongs(process, members):
                members[process.pid] = process
        self._known |= {pid: process.start_ticks for pid, process in members.items()}
        return list(members.values())

    def _belongs(self, process: Process, members: dict[int, Process]) -> bool:
        return (
            self._root in (process.pid, process.session)
            or process.parent in members
            or self._known.get(process.pid) == process.start_ticks
        )

    def memory(self) -> Memory:
        """The sum over the members that are still there when it is their turn."""
        return sum((memory_of(process.pid) for process in self.alive()), Memory())

    def kill(self) -> int:
        """Kill every member; return how many there were."""
        members = self.alive()
        for process in members:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return len(members)


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = (PROC / str(pid) / "stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())


def _running() -> dict[int, Process]:
    found = {}
    for directory in PROC.iterdir():
        if directory.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                process = _parse_stat((directory / "stat").read_text())
                if process is not None:
                    found[process.pid] = process
    return found


def _parse_stat(stat: str) -> Process | None:
    pid, rest = stat.split(" (", 1)
    state, *fields = rest.rsplit(") ", 1)[1].split()
    if state in "ZX":
        return None
    return Process(int(pid), int(fields[18]), parent=int(fields[0]), session=int(fields[2]))


def memory_of(pid: int) -> Memory:
    """What one process holds; nothing when it is gone."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return Memory()
    kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    dirty = kib["Private_Dirty"]
    return Memory(
        kib["Pss"] / MIB, (kib["Private_Clean"] + dirty) / MIB, kib["Pss_Anon"] / MIB, dirty / MIB
    )
