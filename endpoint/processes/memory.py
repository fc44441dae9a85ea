"""How much memory and processor time processes and all that they started take.

Servers fork: a hundred workers that share one interpreter would count it a hundred times by their
resident sizes. The kernel's proportional size (PSS) gives each its part of what is shared, but
takes milliseconds per GiB to ask for. So each process is asked for it when it is first seen and
again every few seconds, and in between by how much its resident size has changed, which costs
microseconds: what ended since counts no more, what grew counts with what it grew.

Only anonymous memory counts; mapped files are page cache, which the kernel takes back.

With thousands of processes a reading of /proc takes a tenth of a second or more. So there is one
``Scanner`` for all, with a thread of its own; it reads only when somebody asks, once for all who
ask meanwhile, and rests as long as it has read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from endpoint.processes.tree import Everyone, Seen

# A process that roots a tree: its pid and when it started.
Root = tuple[int, int]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# A share is asked for again after this; one reading spends so much on that, the oldest first.
_SHARE_SECONDS, _SHARES_SECONDS = 5.0, 0.2

# The longest rest after a reading: the first takes long, as all processes are new to it.
_REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TreeUse:
    """What a tree of processes takes: bytes, and the seconds that it has used a processor.

    ``at`` is the monotonic clock when it was read. The seconds of a process that nobody waits for
    are lost when it ends.
    """

    memory: int
    cpu_seconds: float
    at: float


class Scanner:
    """What trees of processes take. For the event loop; closed when it is done with."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modelyard-memory")
        self._shares = _Shares()
        self._figures: dict[Root, TreeUse | None] = {}
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None  # has not begun to read
        self._rested = 0.0  # by the loop's clock

    def watch(self, root: Root) -> None:
        """Count it in from the next reading on."""
        self._figures.setdefault(root, None)

    def forget(self, root: Root) -> None:
        """Count it no more."""
        self._figures.pop(root, None)

    def latest(self, root: Root) -> int:
        """Bytes that it took at the last reading; 0 when it was gone, or there was none yet."""
        use = self._figures.get(root)
        return 0 if use is None else use.memory

    def use(self, root: Root) -> TreeUse | None:
        """All that was seen of it at the last reading; None if there was none yet."""
        return self._figures.get(root)

    async def read(self) -> None:
        """Return when the figures are those of a moment after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._reading))
        await asyncio.shield(self._next)  # others may wait for it, too

    async def close(self) -> None:
        """Read no more."""
        for task in (self._reading, self._next):
            if task is not None:
                task.cancel()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _read_after(self, before: asyncio.Task[None] | None) -> None:
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.wait({before})
        await asyncio.sleep(self._rested - loop.time())
        self._reading, self._next = self._next, None
        begun = loop.time()
        found = await loop.run_in_executor(self._thread, self._shares.read, list(self._figures))
        self._rested = loop.time() + min(loop.time() - begun, _REST_SECONDS)
        self._figures.update((root, found[root]) for root in self._figures.keys() & found.keys())


@dataclass(frozen=True, slots=True)
class _Measured:
    """A process when it was asked: its share, its resident size, and the clock."""

    share: int
    resident: int
    at: float


class _Shares:
    """What is known of each process that has been seen. Used by one thread."""

    def __init__(self) -> None:
        self._measured: dict[tuple[int, int], _Measured] = {}

    def read(self, roots: Collection[Root]) -> dict[Root, TreeUse]:
        """Each tree now; nothing of one that is gone."""
        everyone, at = Everyone(), time.monotonic()
        trees = {root: everyone.tree(*root) for root in roots}
        self._measure(_key(seen) for tree in trees.values() for seen in tree)
        return {
            root: TreeUse(
                sum(self._bytes(_key(seen)) for seen in tree),
                sum(seen.busy for seen in tree) / _TICKS_PER_SECOND,
                at,
            )
            for root, tree in trees.items()
        }

    def _measure(self, keys: Iterable[tuple[int, int]]) -> None:
        """Ask all that are new for their shares, and some whose shares are old; drop the gone."""
        old = self._measured
        now = self._measured = {key: old.get(key) or _measure(key[0]) for key in keys}
        begun = time.monotonic()
        stale = [key for key, measured in now.items() if measured.at < begun - _SHARE_SECONDS]
        for key in sorted(stale, key=lambda key: now[key].at):
            if time.monotonic() > begun + _SHARES_SECONDS:
                break
            now[key] = _measure(key[0])

    def _bytes(self, key: tuple[int, int]) -> int:
        then = self._measured[key]
        return max(then.share + _resident(key[0]) - then.resident, 0)


def _key(seen: Seen) -> tuple[int, int]:
    return seen.pid, seen.started


def _measure(pid: int) -> _Measured:
    return _Measured(_share(pid), _resident(pid), time.monotonic())


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
