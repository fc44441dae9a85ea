"""One metric of one variant: its values by the minute, and all of them since this process began."""

from __future__ import annotations

from collections.abc import Iterable

from endpoint.metrics.statistics import Statistics, merged

MINUTE = 60

# Kept by the minute; the platform keeps longer.
_MINUTES = 24 * 60


class Series:
    """Values, in the metric's unit. Times are seconds since 1970."""

    def __init__(self) -> None:
        self.minutes: dict[int, Statistics] = {}  # by the second at which each begins
        self._over = Statistics()  # of all minutes but the last
        self._last = 0

    def at(self, time: float) -> Statistics:
        """Where values of this minute are added. A clock that was set back stays where it was."""
        minute = int(time) // MINUTE * MINUTE
        if minute > self._last:
            self._turn(minute)
        return self.minutes[self._last]

    def lately(self, time: float, minutes: int) -> Statistics:
        """The values of so many minutes, this one included."""
        since = int(time) // MINUTE * MINUTE - (minutes - 1) * MINUTE
        return merged(self._since(since))

    def whole(self) -> Statistics:
        """All values since this process began."""
        return merged((self._over, self.minutes.get(self._last, Statistics())))

    def _turn(self, minute: int) -> None:
        """Begin another minute."""
        self._over = self.whole()
        self._last = minute
        self.minutes[minute] = Statistics()
        while next(iter(self.minutes)) <= minute - _MINUTES * MINUTE:
            del self.minutes[next(iter(self.minutes))]

    def _since(self, begin: int) -> Iterable[Statistics]:
        for minute in reversed(self.minutes):
            if minute < begin:
                break
            yield self.minutes[minute]
