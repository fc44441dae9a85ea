"""Evicts models, parks them, and brings them back when somebody asks for them.

An evicted model stays in the table: its name is taken, it is listed, and its next request loads it
again. All who wait for it join the same task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from archives.quoting import shown
from model_server import model_sockets
from model_server.accounts import Accounts
from model_server.errors import (
    ModelFailed,
    ModelNotFound,
    OutOfMemory,
    Problem,
    ProblemError,
    ServerError,
    problem_of,
)
from model_server.eviction_counts import EvictionCounts
from model_server.memory.ledger import RAM, gpu_ledger, shown_bytes
from model_server.memory.plan import Move, Victim
from model_server.memory.prediction import GPU_FLOOR_BYTES
from model_server.model import Model, State
from model_server.processes.workers import Workers
from model_server.room import Room
from model_server.starting import Starter, unloaded_meanwhile
from model_server.tasks import Tasks

log = logging.getLogger("modelyard.memory")

# A request that came while its model was about to leave is answered first, within its own limit.
_DRAIN_MARGIN_SECONDS = 1.0

# How much the latest return to a device counts against those before.
_LATEST = 0.3


class Evictions:
    """Takes models out of memory and brings them back."""

    def __init__(
        self,
        models: Mapping[str, Model],
        accounts: Accounts,
        workers: Workers,
        tasks: Tasks,
        counts: EvictionCounts,
    ) -> None:
        self._models = models
        self._accounts = accounts
        self._workers = workers
        self._tasks = tasks
        self._counts = counts
        self.room: Room
        self.starter: Starter

    def use(self, room: Room, starter: Starter) -> None:
        """These know of evictions themselves, so they come after."""
        self.room, self.starter = room, starter

    # --- out ------------------------------------------------------------------------------------

    def begin(self, victim: Victim) -> None:
        """Withdraw a model that is to leave, and go on with that beside the caller."""
        model = self._models[victim.resident.name]
        parks = victim.move is Move.PARK
        if parks:
            model_sockets.hide(model)
        else:
            model_sockets.withdraw(model)
        model.move(State.EVICTING)
        held = dict(model.resident.held)
        model.leaves = (victim.ledger,) if parks else tuple(held)
        if parks:
            if model.resident.unparked_bytes is None:
                model.resident.unparked_bytes = held[RAM]
            model.hold({**held, RAM: model.resident.parked_bytes or held[RAM]})
        self._tasks.spawn(self._park(model, victim) if parks else self._evict(model))

    async def _evict(self, model: Model) -> None:
        held = model.held_bytes
        await self._end(model)
        if model.is_leaving:
            return
        model.evictions += 1
        model.evicted_at = time.monotonic()
        model.move(State.EVICTED)
        self.room.changed()
        log.info("evicted: %s are free again", shown_bytes(held), extra={"model": model.name})

    async def _end(self, model: Model) -> None:
        """End its processes; those who still hold a request answer it first."""
        limit = model.plan.settings.request_timeout_seconds + _DRAIN_MARGIN_SECONDS
        while model.processes:
            await self._workers.end(model, drain=True, limit_seconds=limit)
        if not model.is_leaving:
            self._nothing_left(model)

    def _nothing_left(self, model: Model) -> None:
        model_sockets.remove(model)
        model.hold({})
        model.leaves = ()
        model.reserved = False

    async def _park(self, model: Model, victim: Victim) -> None:
        try:
            await self._workers.park(model)
        except ServerError as error:
            log.warning("cannot be parked: %s", error.message, extra={"model": model.name})
            self.room.not_parked(victim)
            model.leaves = tuple(model.resident.held)
            await self._evict(model)
            return
        await self._accounts.look_at_gpus()
        if model.is_leaving:
            return
        freed = self._count_parked(model)
        self.room.parked(victim, freed)
        model.leaves = ()
        model.resident.parked_bytes = None  # it cannot be parked once more
        model.evictions += 1
        model.evicted_at = time.monotonic()
        model.move(State.PARKED)
        self.room.changed()
        text = "parked: %s of %s are free again"
        log.info(text, shown_bytes(freed), victim.ledger, extra={"model": model.name})

    def _count_parked(self, model: Model) -> int:
        """Count what the parked model holds; the bytes of its GPU that it gave back."""
        assert model.gpu is not None
        device, held = gpu_ledger(model.gpu), model.resident.held
        before = held.get(device, 0)
        if not self._accounts.sees(model):
            rest = min(before, GPU_FLOOR_BYTES * len(model.workers))
            model.hold({**held, device: rest})
        self._accounts.count(model)
        rest = model.resident.held.get(device, 0)
        if self._accounts.sees(model):
            model.resident.parked_device_bytes = rest
        return before - rest

    # --- and back -------------------------------------------------------------------------------

    async def bring_back(self, model: Model) -> None:
        """Return when a model that is away serves again. Raises ServerError when it will not.

        Whoever asks while it is on its way waits for the same return.
        """
        if model.returning is None:
            if model.state is State.FAILED:
                _check_rested(model)
            self.room.uses.asked_for(model)
            came_from = model.state
            model.move(State.LOADING)
            model.problem = None
            model.returning = self._tasks.spawn(self._return(model, came_from))
        try:
            await asyncio.shield(model.returning)
        except ServerError as error:
            if model.is_leaving:
                raise ModelNotFound(f"{shown(model.name)} was unloaded") from error
            raise

    async def _return(self, model: Model, came_from: State) -> None:
        try:
            await self._try_to_return(model, came_from)
        finally:
            model.returning = None

    async def _try_to_return(self, model: Model, came_from: State) -> None:
        began = time.monotonic()
        try:
            tier = await self._come_back(model, came_from)
        except (Exception, BaseExceptionGroup) as error:  # whatever, the next may try again
            raise await self._stays_away(model, problem_of(error)) from error
        model.failures_in_a_row = model.failed_starts = model.lost_workers = 0
        seconds = time.monotonic() - began
        self._counts.returned(tier, seconds)
        log.info("back from %s in %.3f s", tier, seconds, extra={"model": model.name})

    async def _come_back(self, model: Model, came_from: State) -> str:
        """Have it serve again; from where it came, "parked" or "disk"."""
        waits_since = None
        if came_from is State.PARKED:
            began = time.monotonic()
            try:
                if await self._unpark(model):
                    return "parked"
            except OutOfMemory as error:  # without its processes there may be room, or elsewhere
                log.warning("cannot be unparked: %s", error.message, extra={"model": model.name})
                await self._end(model)
                waits_since = began
        model.wanted_workers = model.plan.settings.min_workers
        await self.starter.start(model, "return", waits_since)
        return "disk"

    async def _unpark(self, model: Model) -> bool:
        """Move the weights back to the device; False when it has to be loaded again instead.

        Raises OutOfMemory when there is no room for them.
        """
        began = time.monotonic()
        if model.ready_workers < model.wanted_workers:  # some died while it was parked
            await self._end(model)
            return False
        need = self._accounts.need(model)
        need.pop(RAM)
        await self.room.take(model, need, "return")
        if model.is_leaving:
            raise unloaded_meanwhile(model)
        try:
            await self._workers.restore(model)
            await self._accounts.look_at_gpus()
            self.starter.check_alive(model)
        except ServerError as error:
            log.warning("cannot be unparked: %s", error.message, extra={"model": model.name})
            await self._end(model)
            return False
        resident = model.resident
        resident.unpark_seconds += _LATEST * (time.monotonic() - began - resident.unpark_seconds)
        self._accounts.count(model)
        self.starter.may_park(model)
        self.starter.show(model)
        return True

    async def _stays_away(self, model: Model, problem: Problem) -> ServerError:
        """Leave it EVICTED or FAILED; returns what those hear who asked for it."""
        if model.is_leaving:  # whoever unloads it cleans up
            return unloaded_meanwhile(model)
        log.error("does not come back: %s", problem.message, extra={"model": model.name})
        model.counted_ahead = 0  # what was asked for will not be finished
        no_room = problem.status == OutOfMemory.status
        await self._workers.end(model, drain=False)
        if model.state is not State.LOADING:
            return unloaded_meanwhile(model)
        self._nothing_left(model)
        self.room.changed()
        if no_room:
            model.move(State.EVICTED)
            return ProblemError(problem)
        return ProblemError(model.fail(problem))

    async def make_room(self, model: Model) -> None:
        """Return when some of a model's device, which was full, is free. Raises OutOfMemory."""
        leaving = await self.room.free_device(model)
        await asyncio.gather(*(self._models[name].settled.wait() for name in leaving))

    def lost(self, model: Model) -> None:
        """All processes of a parked model are gone: it is evicted."""
        model.move(State.EVICTING)
        model.leaves = tuple(model.resident.held)
        self._tasks.spawn(self._evict(model))


def _check_rested(model: Model) -> None:
    assert model.problem is not None
    wait = model.retry_at - time.monotonic()
    if wait > 0:
        raise ModelFailed(model.problem.message, retry_after_seconds=wait)
