"""What was decided about memory, from what, and what came of it: a bounded log one can ask.

The records are plain data, sent and shown as they are; ``wording`` puts them into sentences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

REMEMBERED = 2_000


class Choice(msgspec.Struct, frozen=True, rename="camel"):
    """A model that was looked at: one that left, or one of those that stayed and why.

    ``worth`` is on the policy's own scale and compares only within one decision. ``uses_per_hour``
    is the rate as the policy sees it; ``expected_return_seconds`` follows from it, None when the
    model was never used. ``freed_bytes`` are in the decision's scarce ledger.
    """

    model_name: str
    move: str  # "evict", "park" or "keep"
    reason: str
    ledger: str
    freed_bytes: int
    worth: float | None
    uses_per_hour: float
    reload_seconds: float
    idle_seconds: float | None
    expected_return_seconds: float | None


class Decision(msgspec.Struct, rename="camel"):
    """One plan. ``at`` is seconds since the epoch; bytes are by ledger.

    ``cause`` is why room was wanted: "load", "return", "worker", "growth", "device". ``outcome`` is
    "fits", "evict", "wait" or "refuse", and after a wait what came of it; ``waited_seconds`` is how
    long the caller was kept until then.
    """

    number: int
    at: float
    model_name: str
    cause: str
    policy: str
    need_bytes: dict[str, int]
    free_bytes: dict[str, int]
    outcome: str
    reason: str = ""
    thrashing: bool = False
    waited_seconds: float = 0.0
    victims: list[Choice] = []
    kept: list[Choice] = []


class DecisionLog:
    """The last decisions, the newest last."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._decisions: deque[Decision] = deque(maxlen=remembered)
        self._numbers = 0

    def next_number(self) -> int:
        """A number for the next decision, from 1 on."""
        self._numbers += 1
        return self._numbers

    def add(self, decision: Decision) -> None:
        """Remember a decision; the oldest is forgotten when there are too many."""
        self._decisions.append(decision)

    def about(self, model_name: str | None, limit: int) -> list[Decision]:
        """The newest first: all, or those made for a model or in which it was chosen or kept."""
        found: Iterator[Decision] = reversed(self._decisions)
        if model_name is not None:
            found = (decision for decision in found if _concerns(decision, model_name))
        return [decision for decision, _ in zip(found, range(limit), strict=False)]


def _concerns(decision: Decision, model_name: str) -> bool:
    if decision.model_name == model_name:
        return True
    return any(choice.model_name == model_name for choice in (*decision.victims, *decision.kept))
