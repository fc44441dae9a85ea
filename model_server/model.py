"""One model as the controller knows it, and the life that it may lead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from archives.quoting import shown
from handlers.types import ModelPlan
from model_server import wire
from model_server.backoff import RETRY_FAILED_AFTER_SECONDS
from model_server.environments.environments import Environment
from model_server.errors import ModelFailed, Problem
from model_server.memory.ledger import RAM
from model_server.memory.resident import Resident
from model_server.processes.fork_channel import ForkChannel
from model_server.stats import (
    BUSY_SINCE_NS,
    FINISHED,
    LAST_USED_NS,
    STARTED,
    Totals,
    keys_in_hand,
)


class State(Enum):
    """Where a model is in its life. The arrows are in ``Model``."""

    LOADING = "LOADING"
    READY = "READY"
    RESTARTING = "RESTARTING"
    FAILED = "FAILED"
    EVICTING = "EVICTING"
    EVICTED = "EVICTED"
    PARKED = "PARKED"
    UNLOADING = "UNLOADING"
    GONE = "GONE"


_ARROWS = {
    State.LOADING: {
        State.READY, State.EVICTED, State.FAILED, State.UNLOADING, State.GONE,
    },
    State.READY: {State.RESTARTING, State.EVICTING, State.UNLOADING},
    State.RESTARTING: {State.READY, State.FAILED, State.UNLOADING},
    State.FAILED: {State.LOADING, State.UNLOADING},
    State.EVICTING: {State.EVICTED, State.PARKED, State.UNLOADING},
    State.EVICTED: {State.LOADING, State.UNLOADING},
    State.PARKED: {State.LOADING, State.EVICTING, State.UNLOADING},
    State.UNLOADING: {State.GONE},
    State.GONE: set(),
}  # fmt: skip

# Nothing is under way: whoever waits for the model may look again.
SETTLED = {State.READY, State.FAILED, State.EVICTED, State.PARKED, State.GONE}

# Brought back when somebody asks for it.
AWAY = {State.EVICTED, State.PARKED, State.FAILED}


# For so long, a model that came back for a request is kept until that request has come, too.
_AWAITED_SECONDS = 1.0


class IllegalTransition(Exception):
    """Raised when a model is asked to go where its state does not lead: a fault of ours."""


@dataclass(eq=False)
class Worker:
    """One process of a model.

    ``word`` resolves to what it says of its load, None when it dies without a word; ``exited`` to
    its exit code (negative: a signal) when it is gone and reaped.
    """

    worker_id: int
    slot_index: int
    slot: memoryview
    leash: socket.socket
    word: asyncio.Future[wire.WorkerMessage | None]
    exited: asyncio.Future[int]
    pid: int = 0
    ready: bool = False
    ready_ns: int = 0
    private_bytes: int = 0
    # By how much it has outgrown that since it was measured, as far as it can be told.
    grown_bytes: int = 0
    # Of the requests that it has finished, those that were counted as uses of the model.
    counted_uses: int = 0
    # When it was measured last while it was in use, by the monotonic clock.
    measured_at: float | None = None
    # Whether its device memory can be released while the process stays.
    can_park: bool = False
    # Set when the controller kills it: what its request is told.
    verdict: Problem | None = None
    # One too many: its end is no death.
    leaving: bool = False
    # Those that read of its memory now, which is not freed before (``measuring``).
    readings: set[asyncio.Future[int]] = field(default_factory=set)
    # Of a template, which serves nothing: asks it to fork workers.
    forks: ForkChannel | None = None

    @property
    def busy_since_ns(self) -> int:
        """CLOCK_MONOTONIC of the start of the request in hand; 0 while idle."""
        return self.slot[BUSY_SINCE_NS]

    @property
    def request_keys(self) -> list[int]:
        """The requests in hand, or the last ones."""
        return keys_in_hand(self.slot)

    @property
    def has_request(self) -> bool:
        """Has it requests in hand, also while a stream of theirs waits for its client?"""
        return self.slot[STARTED] != self.slot[FINISHED]

    @property
    def has_served(self) -> bool:
        """Has it finished any request?"""
        return self.slot[FINISHED] > 0

    async def gone(self) -> int:
        """Wait for its end; its exit code. Giving up the wait does not give up ``exited``."""
        await asyncio.wait([self.exited])
        return self.exited.result()

    @property
    def idle_since_ns(self) -> int:
        """CLOCK_MONOTONIC of when it last had something to do; 0 while busy."""
        return 0 if self.has_request else max(self.slot[LAST_USED_NS], self.ready_ns)

    def cut_leash(self) -> None:
        """Tell it to finish what is queued and leave."""
        with contextlib.suppress(OSError):  # it may be gone already
            self.leash.shutdown(socket.SHUT_RDWR)

    def info(self) -> wire.WorkerInfo:
        """For ``GET /models/{name}``."""
        return wire.WorkerInfo(self.pid, self.has_request, self.slot[STARTED], self.private_bytes)


@dataclass(eq=False)
class Model:
    """A model and its workers.

        ∅ ──load──► LOADING ──► READY ──worker died──► RESTARTING ──► READY | FAILED
                       │          │
                       ▼ failure  └──room is needed──► EVICTING ──► EVICTED | PARKED
                       ∅
        EVICTED, PARKED, FAILED ──next invoke──► LOADING ──► READY | EVICTED | FAILED
        any ──DELETE──► UNLOADING ──► GONE

    ``settled`` is an event that is set whenever nothing is under way: not while LOADING,
    RESTARTING, EVICTING or UNLOADING. Only ``move`` changes the state.
    """

    name: str
    url: str
    plan: ModelPlan
    socket_path: str
    listener: socket.socket | None = None
    inode: int = 0  # of the listener, by which the kernel reports its queue
    state: State = State.LOADING
    workers: list[Worker] = field(default_factory=list)
    # How many there should be; between the settings' minimum and maximum.
    wanted_workers: int = 1
    # The process that has the model loaded and forks its workers, where they share it.
    template: Worker | None = None
    # Found out at the first load: whether it may be forked once loaded.
    can_share: bool = True
    environment: Environment | None = None
    # Of the environment that it needs, also before there is one; empty: the server's own.
    environment_key: str = ""
    # Why it failed, when it did: the answer to invokes of a FAILED model.
    problem: Problem | None = None
    retry_at: float = 0.0
    restarts: int = 0
    # A task is bringing it to its number of workers.
    in_hand: bool = False
    lost_workers: int = 0
    # Deaths without a request served in between, which set the back-off; and starts that failed,
    # after some of which the model is given up.
    failures_in_a_row: int = 0
    failed_starts: int = 0
    load_seconds: float = 0.0
    # The GPU that its workers run on; None is the CPU.
    gpu: int | None = None
    # What its processes hold or are going to; ``reserved`` while they have not begun to.
    resident: Resident = field(init=False)
    reserved: bool = False
    # The ledgers whose memory will soon be back.
    leaves: Collection[str] = ()
    # The task that brings it back, for all who wait for it.
    returning: asyncio.Task[None] | None = None
    # Invokes that were counted when they had to wait for its return, before it finished them.
    counted_ahead: int = 0
    # It came back for a request that it has not finished yet.
    awaited: bool = False
    # What its processes took at the height of their loads beyond what they took then; and what a
    # load needs at least, as one was stopped that had come so far.
    passing_bytes: int = 0
    least_bytes: int = 0
    # What it took of RAM when it had just loaded.
    loaded_bytes: int = 0
    # What it held when it was in memory last, by ledger.
    last_held: dict[str, int] = field(default_factory=dict)
    evictions: int = 0
    evicted_at: float | None = None
    totals: Totals = field(default_factory=Totals)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.resident = Resident(self.name, {}, 0.0, busy=self.is_busy)
        self.resident.pinned = self.plan.settings.pinned

    def move(self, state: State) -> None:
        """Change the state. Raises IllegalTransition where no arrow leads."""
        if state not in _ARROWS[self.state]:
            raise IllegalTransition(f"{self.name}: {self.state.name} -> {state.name}")
        self.state = state
        if state in SETTLED:
            self.settled.set()
        else:
            self.settled.clear()

    def fail(self, problem: Problem) -> Problem:
        """Give it up until it has rested; what its invokes are told meanwhile."""
        text = f"{shown(self.name)} cannot be brought back: {problem.message}"
        self.problem = ModelFailed(text).problem()
        self.retry_at = time.monotonic() + RETRY_FAILED_AFTER_SECONDS
        self.move(State.FAILED)
        return self.problem

    @property
    def may_share(self) -> bool:
        """Whether its workers should be forked from a template."""
        settings = self.plan.settings
        return settings.max_workers > 1 and settings.share_weights and self.can_share

    @property
    def processes(self) -> list[Worker]:
        """Its workers and its template."""
        return self.workers if self.template is None else [self.template, *self.workers]

    @property
    def ready_workers(self) -> int:
        """How many can answer."""
        return sum(worker.ready and not worker.leaving for worker in self.workers)

    @property
    def held_bytes(self) -> int:
        """What it holds of the host's RAM."""
        return self.resident.held.get(RAM, 0)

    def hold(self, held: Mapping[str, int]) -> None:
        """From now on it holds this, in bytes by ledger."""
        if not held and self.resident.held:
            self.last_held = dict(self.resident.held)
        self.resident.held = dict(held)  # a new one, so that what was computed from it is known old

    def is_busy(self) -> bool:
        """Whether it is doing anything that an eviction would disturb."""
        if self.state is State.PARKED:
            return False
        if self.state is not State.READY or self.in_hand:
            return True
        if self.awaited and time.monotonic() - self.resident.ready_at < _AWAITED_SECONDS:
            return True
        return any(worker.has_request for worker in self.workers)

    @property
    def is_parking(self) -> bool:
        """Do its processes leave the GPU, but stay themselves?"""
        return self.state is State.EVICTING and bool(self.leaves) and RAM not in self.leaves

    def leaving_bytes(self, ledger: str) -> int:
        """How much of what it holds will soon be back."""
        if ledger not in self.leaves:
            return 0
        held = self.resident.held.get(ledger, 0)
        return max(held - self.resident.parked_device_bytes, 0) if self.is_parking else held

    @property
    def is_leaving(self) -> bool:
        """Has an unload begun?"""
        return self.state in (State.UNLOADING, State.GONE)

    def counted(self) -> Totals:
        """Its counters over all workers, past and present."""
        totals = self.totals.copy()
        for worker in self.workers:
            totals.add(worker.slot)
        return totals

    def info(self) -> wire.ModelInfo:
        """For ``GET /models/{name}``."""
        return wire.ModelInfo(
            model_name=self.name,
            model_url=self.url,
            state=self.state.value,
            framework=self.plan.framework,
            interface=self.plan.interface.value,
            load_seconds=round(self.load_seconds, 4),
            private_bytes=sum(worker.private_bytes for worker in self.processes),
            restarts=self.restarts,
            workers=[worker.info() for worker in self.workers if worker.pid],
            template_pid=self.template.pid if self.template else None,
            environment=(self.environment.key or None) if self.environment else None,
            gpu=self.gpu,
            settings=msgspec.convert(self.plan.settings, wire.ModelServing, from_attributes=True),
        )
