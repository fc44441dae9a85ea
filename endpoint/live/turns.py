"""Starts of containers take turns: many at once on few cores would all be too slow to come up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Most containers have used their processor by then; one that only waits keeps nobody waiting.
_SECONDS = 10.0


class Turns:
    """So many at a time, first come, first served; by default as many as there are cores."""

    def __init__(self, count: int = 0, seconds: float = _SECONDS) -> None:
        self._free = asyncio.Semaphore(count or max(2, len(os.sched_getaffinity(0))))
        self._seconds = seconds

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A turn. It ends with the block, or after a while, when the block takes longer."""
        await self._free.acquire()
        held = True

        def end() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._seconds, end)
        try:
            yield
        finally:
            timer.cancel()
            end()
