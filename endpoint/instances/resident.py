"""A model in an instance's memory, on its way in, or on its way out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from endpoint.cache.disk_cache import Stored


class Stage(Enum):
    """How far a model is. The values are words of ``GET /status``."""

    OUT = "on_disk"
    FETCHING = "downloading"  # its object is looked at, downloaded and extracted
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"


_NEXT = {
    Stage.OUT: {Stage.FETCHING, Stage.LOADING, Stage.LOADED},  # the last: found in the container
    Stage.FETCHING: {Stage.OUT},
    Stage.LOADING: {Stage.LOADED, Stage.OUT},
    Stage.LOADED: {Stage.UNLOADING, Stage.OUT},  # the last: the container has forgotten it
    Stage.UNLOADING: {Stage.OUT, Stage.LOADED},
}


@dataclass(eq=False, slots=True)
class Resident:
    """One version of a model on one instance.

    ``users`` counts requests that run there or wait for it, ``running`` those that run. It is
    unloaded when nobody uses it, or, when its turn is over, when none runs: those that wait then
    bring it back.
    """

    target: str
    url: str
    stored: Stored | None = None  # from when it is on the disk
    users: int = 0
    running: int = 0
    invokes: int = 0
    invokes_before: int = 0  # it was loaded
    loads: int = 0  # that the container has done, or may have
    last_used: float = 0.0  # by the loop's clock
    # Bringing it in, and taking it out. Whoever needs the result waits for the same task.
    arriving: asyncio.Task[None] | None = None
    leaving: asyncio.Task[bool] | None = None
    # A copy that is being taken back: no request is sent to it while others can have it.
    retiring: bool = False
    misses: int = 0  # of the container's lists in a row that did not name it
    _stage: Stage = field(default=Stage.OUT, init=False)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # none runs
    unused: asyncio.Event = field(default_factory=asyncio.Event)  # none runs or waits

    def __post_init__(self) -> None:
        """Nobody uses it yet."""
        self.quiet.set()
        self.unused.set()

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self._stage

    def enter(self, stage: Stage) -> None:
        """It is at another stage."""
        before, self._stage = self._stage, stage
        assert stage in _NEXT[before], f"{self.target}: {before} to {stage}"
        if stage is Stage.LOADED and before is not Stage.UNLOADING:
            self.invokes_before = self.invokes

    @property
    def id(self) -> str:
        """The name that the container knows it by. It must be on the disk."""
        assert self.stored is not None
        return self.stored.id

    @property
    def bytes(self) -> int:
        """What it takes on the disk; 0 before it is there."""
        return 0 if self.stored is None else self.stored.bytes

    @property
    def is_ready(self) -> bool:
        """Requests may be sent."""
        return self._stage is Stage.LOADED and self.leaving is None

    @property
    def is_untried(self) -> bool:
        """No request has been sent to it since it was loaded."""
        return self.invokes == self.invokes_before

    @property
    def holds_files(self) -> bool:
        """Whether its directory must stay where it is."""
        return self._stage is not Stage.OUT or self.arriving is not None or self.users > 0

    def begin_use(self, now: float) -> None:
        """One more request needs it."""
        self.users += 1
        self.last_used = now
        self.unused.clear()

    def end_use(self, now: float) -> None:
        """One request less needs it."""
        self.users -= 1
        self.last_used = now
        if self.users == 0:
            self.unused.set()

    def begin_run(self) -> None:
        """A request is sent to it."""
        self.running += 1
        self.invokes += 1
        self.quiet.clear()

    def end_run(self) -> None:
        """A request has been answered, or not."""
        self.running -= 1
        if self.running == 0:
            self.quiet.set()


def least_recently_used(
    residents: Iterable[Resident], kept: Collection[Resident] = ()
) -> Resident | None:
    """Who leaves first of those that nobody needs, without those that are ``kept``."""
    ready = (resident for resident in residents if resident.is_ready and resident not in kept)
    idle = (resident for resident in ready if resident.users == 0)
    return min(idle, key=lambda resident: resident.last_used, default=None)


def least_wanted(residents: Iterable[Resident], kept: Collection[Resident]) -> Resident | None:
    """Who gives way when all are needed: one that fewest need, and that was asked for long ago."""
    ready = (resident for resident in residents if resident.is_ready and resident not in kept)
    return min(ready, key=lambda resident: (resident.users, resident.last_used), default=None)
