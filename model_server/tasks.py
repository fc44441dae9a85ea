"""Work that goes on beside whoever began it. None is forgotten, and no error goes unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from handlers.errors import HandlerError
from model_server.errors import ServerError

log = logging.getLogger("modelyard.tasks")


class Tasks:
    """A set of tasks on the running loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin; the task may be awaited or left alone."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def finished(self) -> None:
        """Wait until there are none, those included that are begun meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServerError | HandlerError):
            log.error("unexpected: %r", error, exc_info=error)
