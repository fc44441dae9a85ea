"""Which models leave an instance's disk. Plain values in, a plan out: no clock, no disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stored:
    """A model's directory on the disk.

    ``bytes`` is the sum of its files' sizes; what a file system takes for directories and for the
    unused end of a last block is not in it. ``last_used`` is in seconds since 1970, and changes.
    """

    id: str
    target: str
    url: str
    etag: str
    bytes: int
    last_used: float = field(compare=False)


def unpinned(stored: Iterable[Stored], pinned: Collection[str]) -> list[Stored]:
    """Those that may go, the least recently used first."""
    idle = (one for one in stored if one.id not in pinned)
    return sorted(idle, key=lambda one: (one.last_used, one.id))


def victims(
    stored: Collection[Stored], pinned: Collection[str], need_bytes: int, budget_bytes: int
) -> list[str] | None:
    """Ids to delete so that ``need_bytes`` more are within the budget; None if it cannot be.

    The least recently used go, as many as it takes and no more.
    """
    excess = sum(one.bytes for one in stored) + need_bytes - budget_bytes
    chosen: list[str] = []
    if excess <= 0:
        return chosen
    for one in unpinned(stored, pinned):
        chosen.append(one.id)
        excess -= one.bytes
        if excess <= 0:
            return chosen
    return None
