"""On which instance a request for a model is served: where it is in memory, else on disk, else
where there is most room.

Pure: instances come as plain values, chance as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from endpoint.specs import Routing


class Where(IntEnum):
    """How near a model is to answering on an instance; less is nearer."""

    LOADED = 0
    LOADING = 1  # or on its way: downloaded in order to be loaded
    ON_DISK = 2
    ABSENT = 3


@dataclass(frozen=True, slots=True)
class Place:
    """An instance, seen by a request for one model."""

    instance: str
    where: Where
    model_requests: int  # that run for this model there
    requests: int  # that run there
    loaded_bytes: int  # of all models in memory there, or on their way
    free_disk_bytes: int

    @property
    def holds(self) -> bool:
        """Whether the model is in its memory, or about to be."""
        return self.where <= Where.LOADING


def choose(places: Sequence[Place], *, key: str, routing: Routing, dice: float) -> str | None:
    """The instance that is to serve a request; None if there is none.

    ``key`` is the model's name: in a fleet without anything it has the same place every time.
    ``dice`` from [0, 1) decides where ``routing`` is random, which is only among instances that
    have the model in memory: it would be everywhere soon, else.
    """
    if not places:
        return None
    nearest = min(place.where for place in places)
    near = [place for place in places if place.where is nearest]
    if nearest is Where.LOADED and routing is Routing.RANDOM:
        return near[min(int(dice * len(near)), len(near) - 1)].instance
    return min(near, key=_waiting if nearest <= Where.LOADING else cost(key)).instance


def _waiting(place: Place) -> tuple[int, int]:
    return place.model_requests, place.requests


def cost(key: str) -> Callable[[Place], tuple[int, int, int, bytes]]:
    """What it would mean to load the model somewhere; the least is best."""

    def of(place: Place) -> tuple[int, int, int, bytes]:
        rank = _rank(key, place.instance)
        return place.loaded_bytes, -place.free_disk_bytes, place.requests, rank

    return of


def _rank(key: str, instance: str) -> bytes:
    """Rendezvous hashing: when an instance comes or goes, only models that are on it move."""
    return blake2b(f"{key}\0{instance}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
