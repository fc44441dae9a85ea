"""How often a model is used: a count that fades, kept also while the model is not in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp2, inf, log, log2

# After this long without use, what was counted before weighs half.
HALF_LIFE_SECONDS = 1800.0


@dataclass(slots=True)
class Usage:
    """The uses of one model. Times are seconds of any clock that does not jump.

    ``count`` is the faded number of uses as it was at ``last_used``.
    """

    count: float = 0.0
    last_used: float = -inf
    first_used: float = -inf
    uses: int = 0

    def used(self, now: float, times: int = 1) -> None:
        """Count so many uses, which happened just before ``now``."""
        self.count = self.faded(now) + times
        if not self.uses:
            self.first_used = now
        self.last_used = now
        self.uses += times

    def faded(self, now: float) -> float:
        """The count as it is at ``now``."""
        if self.count == 0.0:
            return 0.0
        return self.count * exp2((self.last_used - now) / HALF_LIFE_SECONDS)

    def rate(self, now: float) -> float:
        """Uses per second, as far as the faded count tells."""
        return self.faded(now) * log(2) / HALF_LIFE_SECONDS

    @property
    def weight(self) -> float:
        """The logarithm of the count on a scale that is the same at any time.

        Of two models the one with the larger weight has the larger faded count, now and later: so
        it need not be computed anew for each decision.
        """
        if self.count == 0.0:
            return -inf
        return log2(self.count) + self.last_used / HALF_LIFE_SECONDS
