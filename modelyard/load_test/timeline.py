"""What happened when, in bounded memory, and some of the requests themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from endpoint.metrics.statistics import Statistics

_FIRST_WIDTH_SECONDS = 0.25
_MOST_SLOTS = 480
_MOST_POINTS = 1200


@dataclass(slots=True)
class Slot:
    """A stretch of time: what was due to begin in it, and what ended in it, by its outcome."""

    planned: int = 0
    errors: int = 0
    cold: int = 0
    latency: Statistics = field(default_factory=Statistics)  # milliseconds, of what was answered

    def merge(self, other: Slot) -> None:
        """What happened in both."""
        self.planned += other.planned
        self.errors += other.errors
        self.cold += other.cold
        self.latency.merge(other.latency)


class Timeline:
    """Slots of one width, which doubles when there are too many: a day takes what a minute does."""

    def __init__(self) -> None:
        self.width = _FIRST_WIDTH_SECONDS
        self.slots: list[Slot] = []

    def at(self, seconds: float) -> Slot:
        """The slot of a moment."""
        while int(seconds / self.width) >= _MOST_SLOTS:
            self.widen()
        index = max(0, int(seconds / self.width))
        while len(self.slots) <= index:
            self.slots.append(Slot())
        return self.slots[index]

    def widen(self) -> None:
        """Have each two neighbours become one."""
        wider = self.slots[::2]
        for slot, other in zip(wider, self.slots[1::2], strict=False):
            slot.merge(other)
        self.slots = wider
        self.width *= 2


class Point(NamedTuple):
    """A request: when it ended, in seconds, and its latency in milliseconds."""

    at: float
    latency_ms: float


class Sample:
    """Some of many points, each as likely as the others (a reservoir)."""

    def __init__(self, seed: int) -> None:
        self.points: list[Point] = []
        self._seen = 0
        self._dice = Random(seed)

    def add(self, point: Point) -> None:
        """One more has come."""
        self._seen += 1
        if len(self.points) < _MOST_POINTS:
            self.points.append(point)
            return
        place = int(self._dice.random() * self._seen)
        if place < _MOST_POINTS:
            self.points[place] = point
