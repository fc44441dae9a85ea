"""What other policies would have cost, found out on the live traffic. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class ShadowTotals:
    """The score of one policy."""

    policy: str
    hits: int = 0
    misses: int = 0
    reload_seconds: float = 0.0


class Shadows:
    """First version: knows nothing."""

    def used(
        self, name: str, size_bytes: int, reload_seconds: float, now: float, times: int
    ) -> None:
        """A model was used."""

    def totals(self) -> Sequence[ShadowTotals]:
        """The score of each policy."""
        return ()
