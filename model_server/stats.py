"""Counters in shared memory: each worker writes its own slot, the controller reads them all.

So the hot path sends no message for bookkeeping. A slot is an array of unsigned 64-bit integers;
there are no locks, since a slot has one writer and each field is written with one store.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator
from itertools import compress, count
from operator import ne
from pathlib import Path

from handlers.types import MAX_BATCH

BUCKET_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_BUCKET_NS = tuple(int(seconds * 1e9) for seconds in BUCKET_SECONDS)
BUCKETS = len(BUCKET_SECONDS) + 1


# Places in a slot, each with one writer. Plain integers: looking an enum member up costs more than
# the store itself. Times are CLOCK_MONOTONIC nanoseconds; 0 means never.
REQUEST_KEY = 0  # the request in hand, or the last one; of a batch, the first
BUSY_SINCE_NS = 1  # 0 while idle
LAST_USED_NS = 2
STARTED = 3
FINISHED = 4
FAILED = 5  # of the finished ones: answered with an error
SKIPPED = 6  # never started, because the client had left
HANDLER_NS = 7  # total time in the model's code
QUEUE_NS = 8  # total time from the gateway to the worker
FIRST_BUCKET = 9  # of the histogram of handler times
FURTHER = FIRST_BUCKET + BUCKETS  # requests of the batch in hand beyond the first
BATCHES = FURTHER + 1  # handled, of two requests and more
FURTHER_KEYS = 32  # theirs

SLOTS = 16_384
SLOT_FIELDS = FURTHER_KEYS + MAX_BATCH
_BYTES = SLOTS * SLOT_FIELDS * 8


def bucket(nanoseconds: int) -> int:
    """Index of the histogram bucket that a duration falls into."""
    return bisect_left(_BUCKET_NS, nanoseconds)


class StatsTable:
    """The table of all slots, mapped shared."""

    def __init__(self, path: str | Path) -> None:
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._fields = memoryview(self._map).cast("Q")
        self._free = list(range(SLOTS - 1, -1, -1))
        # No slot from this on has ever been claimed.
        self.end = 0
        # Those that have got a new owner; whoever counts differences takes them.
        self.claimed: list[int] = []

    @classmethod
    def create(cls, path: str | Path) -> StatsTable:
        """Make an empty table; sparse, so it takes memory only for slots in use."""
        with Path(path).open("wb") as file:
            file.truncate(_BYTES)
        return cls(path)

    def slot(self, index: int) -> memoryview:
        """The fields of one slot, to read or write in place."""
        return self._fields[index * SLOT_FIELDS : (index + 1) * SLOT_FIELDS]

    def claim(self) -> int | None:
        """A zeroed slot for a new worker; None when all are taken."""
        if not self._free:
            return None
        index = self._free.pop()
        self.claimed.append(index)
        self.end = max(self.end, index + 1)
        slot = self.slot(index)
        for field in range(FURTHER_KEYS):
            slot[field] = 0
        return index

    def release(self, index: int) -> None:
        """Give a slot back when its worker is gone."""
        self._free.append(index)

    def column(self, field: int) -> list[int]:
        """One field of all slots that were ever claimed, read in one go."""
        return self._fields[field : self.end * SLOT_FIELDS : SLOT_FIELDS].tolist()


def differing(one: list[int], other: list[int]) -> Iterator[int]:
    """The places where two columns of the same length differ."""
    return compress(count(), map(ne, one, other))


class Totals:
    """Counters of a model over all its workers, past and present."""

    def __init__(self) -> None:
        self.finished = self.failed = self.skipped = self.batches = 0
        self.handler_ns = self.queue_ns = 0
        self.buckets = [0] * BUCKETS

    def add(self, slot: memoryview) -> None:
        """Add one worker's counters."""
        self.finished += slot[FINISHED]
        self.failed += slot[FAILED]
        self.skipped += slot[SKIPPED]
        self.batches += slot[BATCHES]
        self.handler_ns += slot[HANDLER_NS]
        self.queue_ns += slot[QUEUE_NS]
        for index in range(BUCKETS):
            self.buckets[index] += slot[FIRST_BUCKET + index]

    def copy(self) -> Totals:
        """The same numbers, to add living workers to."""
        other = Totals()
        other.__dict__.update(self.__dict__)
        other.buckets = list(self.buckets)
        return other


def keys_in_hand(slot: memoryview) -> list[int]:
    """The requests that a worker has in hand, or had last."""
    further = min(slot[FURTHER], MAX_BATCH - 1)
    return [slot[REQUEST_KEY], *slot[FURTHER_KEYS : FURTHER_KEYS + further]]
