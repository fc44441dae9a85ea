"""One metric of one variant: its values by the minute, and all of them since this process began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from endpoint.metrics.statistics import Packed, Statistics, merged

MINUTE = 60

# Kept by the minute; the platform keeps longer.
KEPT_SECONDS = 24 * 60 * MINUTE


class Series(Mapping[int, Statistics]):
    """Values, in the metric's unit, by the second (since 1970) at which a minute begins.

    Minutes without values are not in it. What is taken out of it is not to be changed; ``at`` tells
    where values are added.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, Packed] = {}  # those that are over
        self._past = Statistics()  # all minutes that are over, also those that are not kept
        self._now = Statistics()
        self._begin = 0

    def at(self, time: float) -> Statistics:
        """Where values of this minute are added. A clock that was set back stays where it was."""
        minute = int(time) // MINUTE * MINUTE
        if minute > self._begin:
            self._turn(minute)
        return self._now

    def lately(self, time: float, minutes: int) -> Statistics:
        """The values of so many minutes, this one included."""
        now = int(time) // MINUTE * MINUTE
        wanted = range(now - (minutes - 1) * MINUTE, now + MINUTE, MINUTE)
        return merged(self[minute] for minute in wanted if minute in self)

    def whole(self) -> Statistics:
        """All values since this process began."""
        return merged((self._past, self._now))

    def __getitem__(self, minute: int) -> Statistics:
        """The values of a minute."""
        if minute == self._begin and self._now.count:
            return self._now
        return self._minutes[minute].unpacked()

    def __iter__(self) -> Iterator[int]:
        """The earliest minute first."""
        yield from self._minutes
        if self._now.count:
            yield self._begin

    def __len__(self) -> int:
        """How many minutes have values."""
        return len(self._minutes) + bool(self._now.count)

    def __contains__(self, minute: object) -> bool:
        """Whether a minute has values."""
        return minute in self._minutes or (minute == self._begin and self._now.count > 0)

    def _turn(self, minute: int) -> None:
        """Begin another minute."""
        if self._now.count:
            self._past.merge(self._now)
            self._minutes[self._begin] = self._now.packed()
        while self._minutes and (first := next(iter(self._minutes))) <= minute - KEPT_SECONDS:
            del self._minutes[first]
        self._now, self._begin = Statistics(), minute
