"""How many instances have a model in memory: one more when it is hot, one less when it has cooled.

Pure: time comes as a number, in seconds of a clock that does not jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import exp

from endpoint.routing.places import Place, Where, choose, cost
from endpoint.specs import Routing

# Over how long demand is averaged: long beside most requests, short beside a rush hour.
WINDOW_SECONDS = 10.0

# So much above what copies should carry, nobody waits for the mean to follow.
_BURST = 2.0

# A copy goes when the others would be only so full without it. Well below 1, or it would come
# back with the next request.
_SLACK = 0.5


class Demand:
    """The mean of requests that run at once for a model; what was long ago counts little."""

    def __init__(self, now: float) -> None:
        self.running = 0
        self._mean = 0.0
        self._at = now

    def started(self, now: float) -> None:
        """A request came."""
        self._mean = self.mean(now)
        self._at = max(now, self._at)
        self.running += 1

    def finished(self, now: float) -> None:
        """A request is done, however it went."""
        self._mean = self.mean(now)
        self._at = max(now, self._at)
        self.running -= 1

    def mean(self, now: float) -> float:
        """The mean up to now."""
        elapsed = max(now - self._at, 0.0)
        return self.running + (self._mean - self.running) * exp(-elapsed / WINDOW_SECONDS)


class Change(Enum):
    """What is to become of the number of copies."""

    NONE = "none"
    ADD = "add"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class CopyRules:
    """What a copy should carry, and for how long one stays that is not needed."""

    spill_requests: int
    copy_idle_seconds: float


class Copies:
    """Decides for one model. ``demand`` is told of its requests, ``decide`` asked often enough:
    with each request, and now and then when none comes.
    """

    def __init__(self, rules: CopyRules, now: float) -> None:
        self.demand = Demand(now)
        self._rules = rules
        self._idle_since: float | None = None

    def decide(self, now: float, *, copies: int, starting: bool) -> Change:
        """What to do with ``copies``, those that load included; ``starting``: one of them loads.

        ADD may be given again and again while there is no place for a copy.
        """
        mean = self.demand.mean(now)
        spare = copies > 1 and mean < self._spare_below(copies)
        if not spare:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        if starting or copies < 1:
            return Change.NONE
        if self._is_hot(mean, copies):
            return Change.ADD
        return self._withdrawn(now, copies)

    def _withdrawn(self, now: float, copies: int) -> Change:
        if self._idle_since is None or now - self._idle_since < self._rules.copy_idle_seconds:
            return Change.NONE
        if self.demand.running >= self._spare_below(copies):  # a burst has begun
            return Change.NONE
        self._idle_since = now  # the next one has its own time
        return Change.WITHDRAW

    def _spare_below(self, copies: int) -> float:
        """The demand below which one copy of these could go."""
        return _SLACK * self._rules.spill_requests * (copies - 1)

    def _is_hot(self, mean: float, copies: int) -> bool:
        enough = self._rules.spill_requests * copies
        return mean > enough or self.demand.running >= _BURST * enough


def place_for_copy(places: Sequence[Place], *, key: str) -> str | None:
    """The instance to load one more copy of a model on; None if that would help nobody.

    It would not where there is more to do than on an instance that has the model.
    """
    least = min((place.requests for place in places if place.holds), default=0)
    others = [place for place in places if not place.holds and place.requests < least]
    return choose(others, key=key, routing=Routing.LEAST_OUTSTANDING, dice=0.0)


def copy_to_withdraw(places: Sequence[Place], *, key: str) -> str | None:
    """The instance to unload the model from: the least used copy; None if there is only one."""
    loaded = [place for place in places if place.where is Where.LOADED]
    if len(loaded) < 2:
        return None
    least = min(place.model_requests for place in loaded)
    return max((p for p in loaded if p.model_requests == least), key=cost(key)).instance
