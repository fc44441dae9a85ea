"""What changes, told to all viewers as server-sent events; made once for all of them.

    event: status    the whole document: first, and for who could not keep up
    event: change    what has changed since, see ``changes.between``

Nothing is done while nobody views.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from endpoint.page import changes
from endpoint.page.changes import Picture
from endpoint.page.viewer import Viewer

log = logging.getLogger("modelyard.endpoint")

# Between two looks, and between two readings of what processes take. With very many of them either
# takes long: then others go first.
PAUSE_SECONDS = 0.5
_MEASURE_PAUSE_SECONDS = 2.0
_REST_TIMES = 4

# Events in a whole document. The page shows no more.
_EVENTS_KEPT = 500


class Source(Protocol):
    """Whom the feed asks."""

    async def measure(self) -> None:
        """Have what takes time to measure be that of now, or of a moment ago."""

    async def seen(self, since: int) -> dict[str, Any]:
        """The document of ``GET /status``, with the events after that number."""


class Feed:
    """One producer, and its viewers."""

    def __init__(self, source: Source, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        """``pause_seconds`` are between two looks at the source, or more."""
        self._source = source
        self._pause_seconds = pause_seconds
        self._viewers: set[Viewer] = set()
        self._producing: asyncio.Task[None] | None = None
        self._forget()

    @property
    def viewers(self) -> int:
        """How many there are."""
        return len(self._viewers)

    @contextmanager
    def viewing(self) -> Iterator[Viewer]:
        """A viewer, for as long as it views."""
        viewer = Viewer(self._whole)
        self._viewers.add(viewer)
        if self._producing is None:
            self._producing = asyncio.create_task(self._produce())
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._rest()

    def end(self) -> None:
        """For all viewers."""
        for viewer in self._viewers:
            viewer.end()

    def _rest(self) -> None:
        if self._producing is not None:
            self._producing.cancel()
            self._producing = None
        self._forget()

    def _forget(self) -> None:
        self._now: Picture | None = None
        self._document: bytes | None = None  # of now, from when somebody wants it
        self._events: deque[Any] = deque(maxlen=_EVENTS_KEPT)
        self._last_event = 0

    async def _produce(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(_again(self._source.measure, _MEASURE_PAUSE_SECONDS))
            both.create_task(_again(self._look, self._pause_seconds))

    async def _look(self) -> None:
        now = changes.picture(await self._source.seen(self._last_event))
        before = self._now
        change = None if before is None else changes.between(before, now)
        if before is not None and change is None:
            return
        message = b"" if change is None else _message("change", change)
        self._now, self._document = now, None
        self._events += now.events
        if self._events:
            self._last_event = self._events[-1].number
        for viewer in self._viewers:
            viewer.tell(message)

    def _whole(self) -> bytes | None:
        if self._document is None and self._now is not None:
            self._document = _message("status", changes.whole(self._now, list(self._events)))
        return self._document


async def _again(do: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            await do()
        except Exception:  # viewers would wait for ever, and nobody would know why
            log.exception("the page cannot be told what there is")
        await asyncio.sleep(max(pause_seconds, _REST_TIMES * (loop.time() - begun)))


def _message(event: str, content: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(content))
