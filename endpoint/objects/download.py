"""An object as a stream: parts arrive side by side, and are read in order while others arrive.

The parts that are on their way are the window: a next one is asked for when the first has been
read, so no more than ``window`` parts are in memory. Each is asked for once; one that breaks off
goes on from the byte that it reached.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from typing import Protocol

from archives.errors import Stopped
from endpoint.objects.retrying import patiently
from endpoint.objects.store import ObjectInfo, StoreError, StoreUnavailable

log = logging.getLogger("modelyard.endpoint")

# Smaller parts cost requests. Larger ones keep the extraction waiting: all of a window arrive
# together, and only the first of them can be read by then.
PART_BYTES = 4 << 20
WHOLE_BYTES = 8 << 20  # in one piece: a second request would take longer than it saves
# One at a time gains nothing by small ones, and loses by many where a store reads all of an object
# for each.
LONE_PART_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 19  # what the extraction reads at once, so that few have to be cut


class Body(Protocol):
    """Bytes of an object on their way."""

    def read(self, most: int) -> bytes:
        """The next bytes; none at the end. Raises StoreUnavailable when it breaks off."""

    def abort(self) -> None:
        """End a read that waits in another thread."""

    def close(self) -> None:
        """Give up what is not read."""


# The bytes from the first position to before the second. Raises StoreError.
Open = Callable[[int, int], Body]


class _Part:
    """A piece of the object, from ``position``, which moves on, to before ``end``."""

    def __init__(self, start: int, end: int) -> None:
        self.position = start
        self.end = end
        self.chunks: deque[bytes] = deque()
        self.body: Body | None = None


class Download:
    """An object to be read once, by one thread; ``threads`` get its parts, ``window`` at once."""

    def __init__(
        self, info: ObjectInfo, open_range: Open, threads: Executor, *, window: int
    ) -> None:
        self._info = info
        self._open = open_range
        self._threads = threads
        self._window = window
        self._asked = 0
        self._parts: deque[_Part] = deque()
        self._error: StoreError | Stopped | None = None
        self._changed = threading.Condition()
        self.stopped = threading.Event()

    def read(self, most: int, /) -> bytes:
        """At most ``most`` of the next bytes, as soon as there are any; none at the end.

        Raises the StoreError of any part, also of one further on, and Stopped.
        """
        with self._changed:
            while True:
                self._check()
                self._ask()
                if not self._parts:
                    return b""
                part = self._parts[0]
                if part.chunks:
                    return _taken(part.chunks, most)
                if part.position == part.end:
                    self._parts.popleft()
                else:
                    self._changed.wait()

    def seekable(self) -> bool:
        """Parts that have been read are gone."""
        return False

    def close(self) -> None:
        """End what is on its way, from any thread; whoever reads gets Stopped."""
        with self._changed:
            self.stopped.set()
            bodies = [part.body for part in self._parts if part.body is not None]
            self._parts.clear()
            self._changed.notify_all()
        for body in bodies:
            body.abort()

    def _check(self) -> None:
        if self.stopped.is_set():
            raise Stopped("The download was ended.")
        if self._error is not None:
            raise self._error

    def _ask(self) -> None:
        """Have parts come until the window is full."""
        size = self._info.size
        part_bytes = PART_BYTES if self._window > 1 else LONE_PART_BYTES
        length = part_bytes if size > WHOLE_BYTES else size
        while len(self._parts) < self._window and self._asked < size:
            part = _Part(self._asked, min(self._asked + length, size))
            self._asked = part.end
            self._parts.append(part)
            self._threads.submit(self._fetch, part)

    def _fetch(self, part: _Part) -> None:
        """Get a part, in a thread; the reader is told of a failure."""
        try:
            patiently(lambda: self._receive(part), self.stopped)
        except (StoreError, Stopped) as error:
            self._fail(error)
        except Exception as error:  # of any other kind the extraction would think it damage
            log.exception("%s: a part failed", self._info.url)
            self._fail(StoreError(f"{self._info.url} cannot be downloaded: {error!r}"))

    def _fail(self, error: StoreError | Stopped) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _receive(self, part: _Part) -> None:
        """Get what is missing of a part."""
        if part.position == part.end or self.stopped.is_set():
            return
        with closing(self._open(part.position, part.end)) as body:
            with self._changed:  # either ``close`` finds the body, or it was there before
                part.body = body
            while part.position < part.end and not self.stopped.is_set():
                chunk = body.read(min(_CHUNK_BYTES, part.end - part.position))
                if not chunk:
                    raise StoreUnavailable(self._broken(part))
                self._put(part, chunk)

    def _broken(self, part: _Part) -> str:
        return (
            f"{self._info.url} breaks off after {part.position} of {self._info.size} bytes, again "
            "and again"
        )

    def _put(self, part: _Part, chunk: bytes) -> None:
        with self._changed:
            part.chunks.append(chunk)
            part.position += len(chunk)
            if self._parts and self._parts[0] is part:
                self._changed.notify_all()


def _taken(chunks: deque[bytes], most: int) -> bytes:
    chunk = chunks.popleft()
    if len(chunk) > most:
        chunks.appendleft(chunk[most:])
    return chunk[:most]
