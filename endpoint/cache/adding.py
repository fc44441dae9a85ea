"""A model on its way to the disk: what is set aside for it, and how its thread asks for more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from endpoint.objects.store import Room

T = TypeVar("T")

# Puts a model into a directory, which it makes: asks for room before each file, in its own thread.
Fill = Callable[[Path, Room], Awaitable[object]]


class Adding:
    """One model that is being added. Belongs to the loop, but for ``room``."""

    def __init__(self, target: str, reserve: Callable[[Adding, int], Awaitable[None]]) -> None:
        """``reserve`` sets so many bytes aside in all, or raises DiskFull."""
        self.target = target
        self.reserved = 0
        self.wanted = 0  # the most that it has asked for
        self.refused = False  # the budget does not allow it
        self.gave_way = False  # what it had is for others that arrive
        self.stalled = False  # it has nothing, and waits until the disk is not full
        self._reserve = reserve
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[Any] | None = None
        self._stopped = False

    async def fill(self, target: Path, fill: Fill) -> None:
        """Have it filled. Returns or raises only when nobody works on it any more."""
        filling = asyncio.ensure_future(fill(target, self.room))
        try:
            await asyncio.wait({filling})
        except asyncio.CancelledError:
            # Its thread may wait for room, and be waited for.
            self._stopped = True
            if self._asking is not None:
                self._asking.cancel()
            filling.cancel()
            await _ended(filling)
            raise
        filling.result()

    def room(self, total: int) -> None:
        """Wait until so many bytes in all are set aside. For the thread that writes them.

        Raises DiskFull, or CancelledError of concurrent.futures when nobody wants them any more.
        """
        if total > self.reserved:
            asyncio.run_coroutine_threadsafe(self._ask(total), self._loop).result()

    async def _ask(self, total: int) -> None:
        if self._stopped:
            raise asyncio.CancelledError
        self._asking = asyncio.current_task()
        try:
            await self._reserve(self, total)
        finally:
            self._asking = None


async def to_the_end(work: Awaitable[T]) -> T:
    """Await something that goes on when the caller is cancelled; who then learns of it later."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task)
        raise


async def _ended(task: asyncio.Future[Any]) -> None:
    """Wait for the end of something, whatever comes, and whatever became of it."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen
