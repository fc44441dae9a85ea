"""What evictions, returns and refusals have come to since the start, for the metrics.

The controller calls these from its loop; ``metrics`` takes a copy and formats it in a thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from model_server.stats import BUCKET_SECONDS, BUCKETS


@dataclass(slots=True)
class Histogram:
    """Durations in the buckets of ``stats``."""

    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BUCKET_SECONDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Predictions:
    """Predicted sizes against measured ones."""

    count: int = 0
    error_bytes: int = 0
    measured_bytes: int = 0


@dataclass(slots=True)
class EvictionCounts:
    """Everything counted about memory that no model or ledger tells by itself."""

    # By policy, move and ledger.
    evictions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    freed_bytes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    returns: dict[str, Histogram] = field(default_factory=dict)  # by tier
    predictions: dict[str, Predictions] = field(default_factory=dict)  # by ledger
    refusals: Counter[str] = field(default_factory=Counter)  # by cause
    waits: Histogram = field(default_factory=Histogram)
    stops: Counter[str] = field(default_factory=Counter)  # by reason

    def evicted(self, policy: str, move: str, ledger: str, freed_bytes: int) -> None:
        """A model has left a ledger; ``move`` is "evict" or "park"."""
        self.evictions[policy, move, ledger] += 1
        self.freed_bytes[policy, move, ledger] += max(freed_bytes, 0)

    def returned(self, tier: str, seconds: float) -> None:
        """An evicted model is back, from "disk" or "parked", so long after it was asked for."""
        self.returns.setdefault(tier, Histogram()).add(seconds)

    def predicted(self, ledger: str, predicted_bytes: int, measured_bytes: int) -> None:
        """What a load was predicted to take has been measured."""
        predictions = self.predictions.setdefault(ledger, Predictions())
        predictions.count += 1
        predictions.error_bytes += abs(predicted_bytes - measured_bytes)
        predictions.measured_bytes += measured_bytes

    def refused(self, cause: str) -> None:
        """Room was wanted and not to be had; ``cause`` as in ``Decision``."""
        self.refusals[cause] += 1

    def waited(self, seconds: float) -> None:
        """Somebody waited so long for room, whatever came of it."""
        self.waits.add(seconds)

    def stopped(self, reason: str) -> None:
        """A worker was ended because of the memory it took; ``reason`` is one of a few words."""
        self.stops[reason] += 1
