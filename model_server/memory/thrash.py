"""Tells when models come and go so often that loading is much of what is done. Pure."""

from __future__ import annotations

from math import exp

# A model that comes back after less than this had better stayed.
SOON_SECONDS = 60.0

# The share of the time that goes into such returns: thrashing begins above one, ends below the
# other. Loads side by side count each.
BEGINS_AT = 0.25
ENDS_AT = 0.125

# What was loaded fades over this time. A single load counts for no more than a tenth of it.
_WINDOW_SECONDS = 60.0
_MOST_SECONDS = _WINDOW_SECONDS / 10


class Churn:
    """Watches the loads. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = 0.0
        self._thrashing = False

    def loaded(self, now: float, seconds: float, evicted_at: float | None) -> None:
        """A model was loaded in so many seconds; ``evicted_at`` is when it had left, if it had."""
        if evicted_at is None or now - evicted_at > SOON_SECONDS:
            return
        self._seconds = self._faded(now) + min(seconds, _MOST_SECONDS)
        self._at = now
        self._settle(self._seconds)

    def thrashing(self, now: float) -> bool:
        """Whether much of the time goes into bringing back what has just left."""
        self._settle(self._faded(now))
        return self._thrashing

    def _faded(self, now: float) -> float:
        return self._seconds * exp(min(self._at - now, 0.0) / _WINDOW_SECONDS)

    def _settle(self, seconds: float) -> None:
        share = seconds / _WINDOW_SECONDS
        self._thrashing = share > (ENDS_AT if self._thrashing else BEGINS_AT)
