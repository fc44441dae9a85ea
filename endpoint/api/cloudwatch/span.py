"""From StartTime, EndTime and Period to the minutes that count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from endpoint.errors import ApiError
from endpoint.metrics.statistics import Statistics, merged

MINUTE = 60

# The first second of the year 10000: no client can show a time beyond.
_END_OF_TIME = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds since 1970: whole minutes from ``start``, before ``end``."""

    start: int
    end: float

    @classmethod
    def between(cls, start: float, end: float, refusal: type[ApiError]) -> Span:
        """``start`` is rounded down to a minute, as the platform does it.

        Raises ``refusal`` where there is nothing between them.
        """
        for name, time in (("StartTime", start), ("EndTime", end)):
            if not 0 <= time < _END_OF_TIME:
                raise refusal(f"The parameter {name} must be between 1970 and the year 9999.")
        if start == end:
            raise refusal("The parameter StartTime must not equal parameter EndTime.")
        if start > end:
            raise refusal("The parameter StartTime must be less than the parameter EndTime.")
        return cls(int(start) // MINUTE * MINUTE, end)

    def count(self, period: int) -> int:
        """How many periods there are, with and without values."""
        return math.ceil((self.end - self.start) / period)

    def parts(
        self, minutes: Mapping[int, Statistics], period: int
    ) -> list[tuple[int, list[Statistics]]]:
        """The periods that have values, the earliest first, each with those of its minutes."""
        found: dict[int, list[Statistics]] = {}
        for minute in sorted(minutes):
            if self.start <= minute < self.end:
                begin = self.start + (minute - self.start) // period * period
                found.setdefault(begin, []).append(minutes[minute])
        return list(found.items())


def whole(parts: list[Statistics]) -> Statistics:
    """All values of a period."""
    return parts[0] if len(parts) == 1 else merged(parts)


def is_period(seconds: int) -> bool:
    """Whether values can be had by it: they are kept by the minute."""
    return seconds % MINUTE == 0
