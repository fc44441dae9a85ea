"""Tells when models come and go so often that loading is most of what is done. Pure."""

from __future__ import annotations


class Churn:
    """First version: never thrashing."""

    def loaded(self, now: float, seconds: float, evicted_at: float | None) -> None:
        """A model was loaded in so many seconds; ``evicted_at`` is when it had left, if it had."""

    def thrashing(self, now: float) -> bool:
        """Whether newcomers should wait."""
        return False
