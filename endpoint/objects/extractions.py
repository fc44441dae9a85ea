"""Extractions as the event loop sees them: so many at once, and without a trace if cancelled.

One that waits for room on its disk does not count: the disk of one instance, whose container may
hang while it unloads a model, must not keep all others from their downloads.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from archives.errors import Stopped
from endpoint.objects.store import Room, StoreUnavailable

# More would share the same CPUs, and each may hold a window of parts in memory.
_AT_ONCE = 8
# Those that wait for room have a thread each: eight for each of 64 instances.
_THREADS = 512
# Room is there sooner than that, or somebody has to leave for it.
_LONG_SECONDS = 0.2


class _Running:
    """One extraction; ``room`` is for its thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._asked_at: float | None = None

    def room(self, total: int) -> None:
        """Wait for room, and be seen to."""
        self._asked_at = time.monotonic()
        try:
            self._room(total)
        finally:
            self._asked_at = None

    @property
    def waits(self) -> bool:
        """It has been waiting for room for long."""
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at >= _LONG_SECONDS


class Extractions:
    """Threads that extract. ``run`` and ``close`` are for the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "extract")
        self._running: set[_Running] = set()
        self._queue = asyncio.Lock()
        self._ended = asyncio.Event()
        self._stops: set[Callable[[], None]] = set()
        self._closed = False

    async def run(
        self, work: Callable[[Room], int], room: Room, stop: Callable[[], None], target: Path
    ) -> int:
        """What ``work`` returns, which makes ``target`` in a thread and ends soon after ``stop``.

        It is given what it is to ask for ``room``. When this is cancelled, it returns after the
        thread is done, and ``target`` is not there.
        """
        running = _Running(room)
        self._stops.add(stop)
        try:
            await self._begin(running)
            return await self._run(lambda: work(running.room), stop, target)
        except Stopped as error:  # by close
            raise StoreUnavailable("the endpoint is stopping") from error
        finally:
            self._stops.discard(stop)
            self._running.discard(running)
            self._ended.set()

    async def close(self) -> None:
        """End all of them, and the threads."""
        self._closed = True
        for stop in list(self._stops):
            stop()
        self._ended.set()
        await asyncio.to_thread(self._threads.shutdown, wait=True)

    async def _begin(self, running: _Running) -> None:
        """Wait for one's turn."""
        async with self._queue:
            while not self._closed and self._working >= _AT_ONCE:
                self._ended.clear()
                # Nobody tells of one that has begun to wait.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONG_SECONDS):
                        await self._ended.wait()
            if self._closed:
                raise Stopped("The endpoint is stopping.")
            self._running.add(running)

    @property
    def _working(self) -> int:
        return sum(not running.waits for running in self._running)

    async def _run(self, work: Callable[[], int], stop: Callable[[], None], target: Path) -> int:
        job = self._threads.submit(work)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop()
            if not job.cancel():
                await asyncio.wait({done})
                if done.exception() is None:  # the last moment: it was made already
                    await asyncio.to_thread(shutil.rmtree, target)
            raise
