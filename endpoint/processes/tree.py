"""What /proc tells of the processes that one process has started, and the way to signal them.

A pid alone names nobody: the kernel gives it to somebody else when its process is gone. So a
process is its pid and the time it started, and a signal goes through a descriptor of the process,
opened before its start time is looked at.

Sessions alone do not hold a tree together, since servers give their workers sessions of their own,
nor do parents, since orphans lose theirs. What is left of a tree whose root is gone can only be
told by a mark that was in the root's environment and that every process inherits.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "_MODELYARD_PROCESS"  # not MODELYARD_, where all are settings

_PROC = Path("/proc")
_OWN = "//"  # in no path, and marks are paths


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as /proc showed it. ``started`` counts the kernel's ticks since it was booted.

    ``busy`` are the ticks that it has used a processor, with those of its children that have ended
    and been waited for.
    """

    pid: int
    started: int
    parent: int
    session: int
    dead: bool  # not yet waited for by its parent
    busy: int = 0


def look(pid: int) -> Seen | None:
    """The process that has this pid now, if any."""
    text = _stat(pid)
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split(maxsplit=20)  # the name may hold anything
    return Seen(
        pid=pid,
        started=int(fields[19]),
        parent=int(fields[1]),
        session=int(fields[3]),
        dead=fields[0] in (b"Z", b"X"),
        busy=int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
    )


def _stat(pid: int) -> bytes:
    """By the shortest way, since it is done for each process of the machine; empty: it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # or hidden from us
        return b""
    try:
        return os.read(fd, 4096)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)


def boot() -> str:
    """Which boot of which machine this is: start times count from there."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


class Everyone:
    """All processes of the machine at one moment: one reading of /proc for any number of trees."""

    def __init__(self) -> None:
        """Read them. Blocks for some ten microseconds per process."""
        self._all = {seen.pid: seen for seen in _everyone()}
        self._below: dict[int, list[Seen]] = {}
        for seen in self._all.values():
            for above in {seen.parent, seen.session} - {seen.pid}:
                self._below.setdefault(above, []).append(seen)

    def tree(self, pid: int, started: int) -> list[Seen]:
        """As the function ``tree``, of that moment."""
        root = self._all.get(pid)
        if root is None or root.started != started:
            return []
        found, pending = {pid: root}, [root]
        while pending:
            for seen in self._below.get(pending.pop().pid, ()):
                if seen.pid not in found:
                    found[seen.pid] = seen
                    pending.append(seen)
        return list(found.values())


def tree(pid: int, started: int) -> list[Seen]:
    """A process that has not been reaped, its descendants, and all in sessions that they lead."""
    return Everyone().tree(pid, started)


def marked(mark: str, since: int = 0) -> list[Seen]:
    """All whose environment has this mark, of those that did not start before ``since``.

    A mark without its own end, as ``own_mark`` gives it, stands for all that were made of it. What
    has cleared its environment is not found.
    """
    wanted = f"{MARK}={mark}".encode()
    return [
        seen
        for seen in _everyone()
        if seen.started >= since
        and not seen.dead
        and any(
            text == wanted or text.startswith(wanted + _OWN.encode())
            for text in _environment(seen.pid)
        )
    ]


def own_mark(mark: str) -> str:
    """A mark for one process of several that have this one after each other."""
    return f"{mark}{_OWN}{secrets.token_hex(8)}"


def kill(processes: Iterable[Seen], limit_seconds: float = 1.0) -> bool:
    """SIGKILL to each that lives; whether there was one.

    Returns when they are gone, or after the limit: one that waits for a device dies later. Blocks:
    for a thread.
    """
    pidfds = [pidfd for seen in processes if (pidfd := _open(seen)) is not None]
    try:
        for pidfd in pidfds:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait_until_gone(pidfds, limit_seconds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    return bool(pidfds)


def _open(seen: Seen) -> int | None:
    """A descriptor of this process and of no other, unless it is dead."""
    try:
        pidfd = os.pidfd_open(seen.pid)
    except ProcessLookupError:
        return None
    now = look(seen.pid)
    if now is None or now.dead or now.started != seen.started:
        os.close(pidfd)
        return None
    return pidfd


def _wait_until_gone(pidfds: Sequence[int], limit_seconds: float) -> None:
    poller, left, deadline = select.poll(), set(pidfds), time.monotonic() + limit_seconds
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    while left and (wait := deadline - time.monotonic()) > 0:
        for pidfd, _ in poller.poll(wait * 1000):
            poller.unregister(pidfd)
            left.discard(pidfd)


def _everyone() -> list[Seen]:
    pids = [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208 - 3 x faster
    return [seen for seen in map(look, pids) if seen is not None]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return []
