"""Extractions as the event loop sees them: so many at once, and without a trace if cancelled."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from archives.errors import Stopped
from endpoint.objects.store import StoreUnavailable

# More would share the same CPUs, and each may hold a window of parts in memory.
_AT_ONCE = 8


class Extractions:
    """Threads that extract. ``run`` and ``close`` are for the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "extract")
        self._stops: set[Callable[[], None]] = set()
        self._closed = False

    async def run(self, work: Callable[[], int], stop: Callable[[], None], target: Path) -> int:
        """What ``work`` returns, which makes ``target`` in a thread and ends soon after ``stop``.

        When it is cancelled, it returns after the thread is done, and ``target`` is not there.
        """
        if self._closed:
            raise StoreUnavailable("the endpoint is stopping")
        job = self._threads.submit(work)
        done = asyncio.wrap_future(job)
        self._stops.add(stop)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            stop()
            if not job.cancel():
                await asyncio.wait({done})
                if done.exception() is None:  # the last moment: it was made already
                    await asyncio.to_thread(shutil.rmtree, target)
            raise
        except Stopped as error:  # by close
            raise StoreUnavailable("the endpoint is stopping") from error
        finally:
            self._stops.discard(stop)

    async def close(self) -> None:
        """End all of them, and the threads."""
        self._closed = True
        for stop in list(self._stops):
            stop()
        await asyncio.to_thread(self._threads.shutdown, wait=True)
