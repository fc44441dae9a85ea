"""Work that goes on for as long as the server does, whatever goes wrong in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

log = logging.getLogger("modelyard.background")

_PAUSE_SECONDS = 1.0

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, None]]


async def for_ever(work: Work, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
    """Do ``work``, which has no end of its own; when it fails, log that and begin it anew."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and begins anew", getattr(work, "__name__", work))
        await asyncio.sleep(pause_seconds)


async def beside(work: Callable[[], T]) -> T:
    """Do ``work`` in a thread of its own, which the server's end does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=getattr(work, "__name__", None), daemon=True).start()
    return await done


class Background:
    """Tasks that run until they are cancelled together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside everything else; an error in it is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """End all."""
        for task in list(self._tasks):
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("background work failed: %r", error, exc_info=error)
