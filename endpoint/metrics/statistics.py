"""Many values in a few numbers, as CloudWatch keeps them: count, sum, extremes, percentiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# Values of one bucket differ by this factor at most, so a percentile is right within 2 %.
_FACTOR = 1.04
_LOG = math.log(_FACTOR)
_ZERO = -(1 << 20)  # the bucket of values that are 0


@dataclass(slots=True)
class Statistics:
    """Values that are 0 or more. Adding one takes constant time; the room grows with their range."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, value: float, times: int = 1) -> None:
        """Another value, or the same several times."""
        self.count += times
        self.total += value * times
        self.least = min(self.least, value)
        self.most = max(self.most, value)
        bucket = _ZERO if value <= 0 else math.floor(math.log(value) / _LOG)
        self.buckets[bucket] += times

    def merge(self, other: Statistics) -> None:
        """All values of another."""
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.buckets.update(other.buckets)

    @property
    def mean(self) -> float:
        """Not for none."""
        return self.total / self.count

    def quantile(self, share: float) -> float:
        """The value that ``share`` (0 to 1) of all do not exceed, within 2 %. Not for none."""
        rank = share * self.count
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                middle = 0.0 if bucket == _ZERO else _FACTOR ** (bucket + 0.5)
                return min(max(middle, self.least), self.most)
        return self.most


def merged(parts: Iterable[Statistics]) -> Statistics:
    """All values of all parts."""
    whole = Statistics()
    for part in parts:
        whole.merge(part)
    return whole
