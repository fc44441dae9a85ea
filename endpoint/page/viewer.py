"""One who views the page: what there is to send, within bounds.

Messages are bytes that all viewers share. A viewer who is slower than the changes skips them, and
is sent the whole document of that time instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# Changes that wait for a viewer; at two a second, those of a hiccup.
_MOST_WAITING = 8


class Viewer:
    """Made for the first whole document, then for all changes until ``end``."""

    def __init__(self, whole: Callable[[], bytes | None]) -> None:
        """``whole`` is the document as it is now, None before there is one."""
        self._whole = whole
        self._behind = True
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._news = asyncio.Event()

    def tell(self, change: bytes) -> None:
        """What has changed; also the first document, of which a new viewer gets the whole."""
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.clear()
            self._behind = True
        if not self._behind:
            self._waiting.append(change)
        self._news.set()

    def end(self) -> None:
        """There is nothing more to come."""
        self._ended = True
        self._news.set()

    async def next(self) -> bytes | None:
        """The next message; None at the end. Can be cancelled without losing one."""
        while not self._ended:
            if self._behind and (document := self._whole()) is not None:
                self._behind = False
                return document
            if self._waiting:
                return self._waiting.popleft()
            self._news.clear()
            await self._news.wait()
        return None
