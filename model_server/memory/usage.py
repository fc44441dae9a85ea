"""How often a model is used: two averages of the time between uses, kept also while it is away.

Nothing here is a number of minutes that has to fit the traffic: each model is measured against its
own habits. docs/concepts/memory.md shows how this compares with a count that fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

# How much the newest of the gaps between uses counts.
NEWEST_SHARE = 0.25

# A model that was used only once is expected again after this many times as long as it has waited.
ONCE_FACTOR = 4.0

# Uses that are reported together happened within this time.
REPORT_SECONDS = 1.0

SHORTEST_SECONDS = 0.001


@dataclass(slots=True)
class Usage:
    """The uses of one model. Times are seconds of any clock that does not jump.

    ``short_gap`` is the average time between two uses, ``long_gap`` the same with each gap counting
    by its length: what one finds who looks at a moment drawn by chance. In even traffic they are
    alike; where uses come in bursts, one is the pace of a burst and the other the pause between
    two. Both are 0 before the second use.
    """

    short_gap: float = 0.0
    long_gap: float = 0.0
    last_used: float = -inf
    first_used: float = -inf
    uses: int = 0

    def used(self, now: float, times: int = 1) -> None:
        """Count so many uses, which happened just before ``now``."""
        since = now - self.last_used
        if not self.uses:
            self.first_used = now
            since = 0.0
        self.uses += times
        if times > 1:
            since = self._reported(since, times)
        if since > 0:
            self._waited(since)
        if now > self.last_used:
            self.last_used = now

    def _waited(self, gap: float) -> None:
        short, long = self.short_gap, self.long_gap
        if not short:
            self.short_gap = self.long_gap = gap
            return
        self.short_gap = short + NEWEST_SHARE * (gap - short)
        share = NEWEST_SHARE if gap >= long else NEWEST_SHARE * gap / long
        self.long_gap = long + share * (gap - long)

    def _reported(self, since: float, times: int) -> float:
        """Spread all but the first of several uses over the end of ``since``; the gap before it."""
        if self.uses == times:
            since = REPORT_SECONDS
        if since <= 0:
            return 0.0
        each = min(since, REPORT_SECONDS) / times
        first = since - each * (times - 1)
        if self.uses > times:
            self._waited(first)
        for _ in range(min(times - 1, 50)):  # the average has become the gap by then
            self._waited(each)
        return 0.0

    def expected_return(self, now: float) -> float:
        """In how many seconds the next use is expected; infinite for a model that was never used.

        As long as the model has been idle for less than its usual gap, that gap. From then on it is
        ever less likely that the burst goes on: up to the usual pause, or as long as it has waited.
        """
        idle = now - self.last_used
        short = self.short_gap
        if idle > short > 0.0:
            far = self.long_gap
            if far < idle:
                far = idle
            near = idle * idle / short
            expected = near if near < far else far
        else:
            expected = short or ONCE_FACTOR * idle
        return expected if expected > SHORTEST_SECONDS else SHORTEST_SECONDS

    def rate(self, now: float) -> float:
        """Uses per second to be expected."""
        return 1.0 / self.expected_return(now) if self.uses else 0.0

    def is_hot(self, now: float) -> bool:
        """Whether the model is being used again and again."""
        return self.uses > 1 and now - self.last_used <= 3 * self.short_gap
