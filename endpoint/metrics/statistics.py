"""Many values in a few numbers, as CloudWatch keeps them: count, sum, extremes, percentiles."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

# Values of one bucket differ by this factor at most, so a percentile is right within 2 %.
_FACTOR = 1.04
_PER_LOG = 1 / math.log(_FACTOR)
_ZERO = -(1 << 20)  # the bucket of values that are 0

_log, _floor = math.log, math.floor


@dataclass(slots=True)
class Statistics:
    """Values that are 0 or more. Adding one takes constant time; the room grows with their range.

    A value below 0, such as a time by a clock that was set back, counts as 0.
    """

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value: float, times: int = 1) -> None:
        """Another value, or the same several times."""
        if value > 0:
            bucket = _floor(_log(value) * _PER_LOG)
        else:
            value, bucket = 0.0, _ZERO
        self.count += times
        self.total += value * times
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def merge(self, other: Statistics) -> None:
        """All values of another."""
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def mean(self) -> float:
        """Not for none."""
        return self.total / self.count

    def quantile(self, share: float) -> float:
        """The value that ``share`` (0 to 1) of all do not exceed, within 2 %. Not for none."""
        (found,) = self.quantiles(share)
        return found

    def quantiles(self, *shares: float) -> list[float]:
        """Several, the smallest share first, for little more than one."""
        found: list[float] = []
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            while len(found) < len(shares) and seen >= shares[len(found)] * self.count:
                middle = 0.0 if bucket == _ZERO else _FACTOR ** (bucket + 0.5)
                found.append(min(max(middle, self.least), self.most))
        return found + [self.most] * (len(shares) - len(found))

    def up_to(self, bounds: Iterable[float]) -> list[int]:
        """How many values are not over each bound, the smallest first.

        Values up to 4 % below a bound may count as over it; what counted once always does.
        """
        counts, seen, left = [], 0, iter(sorted(self.buckets.items()))
        bucket, count = next(left, (None, 0))
        for bound in bounds:
            below = _floor(_log(bound) * _PER_LOG)  # the bound is in this bucket
            while bucket is not None and bucket < below:
                seen += count
                bucket, count = next(left, (None, 0))
            counts.append(seen)
        return counts

    def packed(self) -> Packed:
        """The same in a fifth of the room."""
        buckets, counts = array("q", self.buckets), array("q", self.buckets.values())
        return Packed(self.total, self.least, self.most, buckets, counts)


@dataclass(frozen=True, slots=True)
class Packed:
    """Statistics to which nothing is added any more."""

    total: float
    least: float
    most: float
    buckets: array[int]
    counts: array[int]

    def unpacked(self) -> Statistics:
        """As they were."""
        buckets = dict(zip(self.buckets, self.counts, strict=True))
        return Statistics(sum(self.counts), self.total, self.least, self.most, buckets)


def merged(parts: Iterable[Statistics]) -> Statistics:
    """All values of all parts."""
    whole = Statistics()
    for part in parts:
        whole.merge(part)
    return whole
