"""What other policies would have cost, found out on the live traffic. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model_server.memory.policies import Policy
from model_server.memory.simulation import Cache


@dataclass(frozen=True, slots=True)
class ShadowTotals:
    """The score of one policy: uses that would have found the model, and those that would not."""

    policy: str
    hits: int = 0
    misses: int = 0
    reload_seconds: float = 0.0


class Shadows:
    """A simulated cache for each policy, fed with the uses that really happen.

    Each is as large as the memory for models, ``limit_bytes``, which may change.
    """

    def __init__(self, policies: Iterable[Policy] = (), limit_bytes: int = 0) -> None:
        self._caches = [Cache(policy, limit_bytes) for policy in policies]

    def resize(self, limit_bytes: int) -> None:
        """From now on there is so much memory for models."""
        for cache in self._caches:
            cache.limit_bytes = limit_bytes

    def used(
        self, name: str, size_bytes: int, reload_seconds: float, now: float, times: int
    ) -> None:
        """A model was used so many times."""
        for cache in self._caches:
            cache.use(name, size_bytes, reload_seconds, now, times)

    def forget(self, name: str) -> None:
        """A model was unloaded."""
        for cache in self._caches:
            cache.forget(name)

    def totals(self) -> Sequence[ShadowTotals]:
        """The score of each policy."""
        return [
            ShadowTotals(cache.policy.name, cache.hits, cache.misses, cache.reload_seconds)
            for cache in self._caches
        ]
