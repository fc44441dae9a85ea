"""What happened lately, for people: loads, unloads, spills, instances that came and went."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("modelyard.endpoint")

_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``time`` is seconds since 1970; ``seconds`` is how long it took."""

    number: int
    time: float
    endpoint: str
    variant: str
    instance: str
    kind: str
    target: str
    seconds: float | None
    text: str


class Events:
    """The last of all endpoints' events, numbered from 1."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have each event told from now on, as it happens; who listens must not raise."""
        self._listeners.append(listener)

    def since(self, number: int) -> list[Event]:
        """Those after that number which are still kept, oldest first."""
        return [event for event in self._kept if event.number > number]

    def of(self, endpoint: str, variant: str = "", instance: str = "") -> Record:
        """A place to tell events of one endpoint, variant or instance."""
        return Record(self, endpoint, variant, instance)

    def add(self, event: Event) -> None:
        """Keep it, and say it in the log."""
        self._kept.append(event)
        where = event.instance or event.endpoint
        took = "" if event.seconds is None else f" ({event.seconds:.3f} s)"
        log.info("%s: %s %s%s %s", where, event.kind, event.target, took, event.text)
        for listener in self._listeners:
            listener(event)

    def next_number(self) -> int:
        """Of the next event."""
        return next(self._numbers)


@dataclass(frozen=True, slots=True)
class Record:
    """Tells events of one endpoint, variant or instance."""

    events: Events
    endpoint: str
    variant: str
    instance: str

    def __call__(
        self,
        kind: str,
        target: str = "",
        *,
        seconds: float | None = None,
        text: str = "",
        at: float | None = None,
    ) -> None:
        """Tell an event that has just happened, or did so ``at`` seconds since 1970."""
        self.events.add(
            Event(
                number=self.events.next_number(),
                time=time.time() if at is None else at,
                endpoint=self.endpoint,
                variant=self.variant,
                instance=self.instance,
                kind=kind,
                target=target,
                seconds=seconds,
                text=text,
            )
        )
