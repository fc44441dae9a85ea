"""How many workers a model should have: a pure function of what was seen, no clock, no effects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """The most requests that a model had at once, running and waiting, since a moment.

    ``since`` is in seconds of any clock that does not jump.
    """

    peak: int
    since: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the model's settings allow, and after how many seconds a lower peak is believed."""

    minimum: int
    maximum: int
    idle_seconds: float


def wanted_workers(
    demand: Demand, *, at_once: int, wanted: int, bounds: Bounds, now: float
) -> tuple[int, Demand]:
    """How many workers there should be from now on, and the demand to remember.

    More as soon as requests wait, at most twice as many with each look, so that a burst does not
    start a worker for each of its requests. Fewer only when for ``idle_seconds`` fewer would have
    done: a worker that goes and comes back costs more than one that waits.
    """
    if at_once > wanted:
        more = min(wanted * 2, at_once, bounds.maximum)
        return max(more, wanted), Demand(at_once, now)
    peak = max(demand.peak, at_once)
    if now - demand.since < bounds.idle_seconds:
        return wanted, Demand(peak, demand.since)
    fewer = max(min(wanted, peak), bounds.minimum)
    return fewer, Demand(at_once, now)
