"""Keeps each loaded model at the number of workers that it should have.

Dead workers are replaced, at once and then with growing pauses; a model whose starts keep failing
is given up until somebody asks for it again. Workers are added while requests wait, as far as the
model's settings and the memory allow, and taken back when they have not been needed for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from model_server import model_sockets
from model_server.accounts import Accounts
from model_server.backoff import GIVE_UP_AFTER, RETRY_FAILED_AFTER_SECONDS, restart_delay
from model_server.errors import Problem, problem_of
from model_server.model import Model, State, Worker
from model_server.processes.children import describe_exit
from model_server.processes.workers import Workers
from model_server.room import Room
from model_server.scaling import Bounds, Demand, wanted_workers
from model_server.settings import Settings
from model_server.socket_queues import waiting_connections

log = logging.getLogger("modelyard.upkeep")

_LOOK_SECONDS = 0.1

# After a worker could not be added, for lack of memory or because it failed.
_REST_SECONDS = 10.0

_MODELS_AT_A_LOOK = 500

# Which models may have more workers or fewer is looked up anew when there are more models or fewer,
# and this often.
_LIST_SECONDS = 1.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Upkeep:
    """Looks after the workers of all models.

    ``spawn`` runs work beside the caller; ``lost(model)`` hears of parked models that are gone.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        workers: Workers,
        accounts: Accounts,
        room: Room,
        settings: Settings,
        spawn: Spawn,
        lost: Callable[[Model], None],
    ) -> None:
        self.restarts = 0
        self.stopping = False
        self._models = models
        self._workers = workers
        self._accounts = accounts
        self._room = room
        self._settings = settings
        self._spawn = spawn
        self._lost = lost
        self._turn = 0
        self._elastic: list[Model] = []
        self._known = 0
        self._list_at = 0.0
        self._demand: WeakKeyDictionary[Model, Demand] = WeakKeyDictionary()
        self._resting_until: WeakKeyDictionary[Model, float] = WeakKeyDictionary()
        # Those that go on with fewer workers than their minimum.
        self._short: WeakSet[Model] = WeakSet()

    # --- deaths ---------------------------------------------------------------------------------

    def worker_died(self, model: Model, worker: Worker, code: int) -> None:
        """A worker that had loaded is gone: replace it, unless it or the model was to go."""
        if model.state is State.PARKED and not model.workers:
            self._lost(model)
        if model.state not in (State.READY, State.RESTARTING):
            return
        if model.state is State.READY and not (self._lacks_workers(model) and worker.forks is None):
            self._accounts.settle(model)  # else what it held is kept for the next
        if worker.leaving:
            return
        if worker.forks is not None:
            how = describe_exit(code)
            log.warning("the process that workers fork from %s", how, extra={"model": model.name})
            return
        model.failures_in_a_row = 0 if worker.has_served else model.failures_in_a_row + 1
        model.lost_workers += 1
        how = describe_exit(code) if worker.verdict is None else "was ended"
        log.warning("process %s; starting another", how, extra={"model": model.name})
        if model.state is State.READY and not model.ready_workers:
            model.move(State.RESTARTING)
        self._see_to(model)

    def _see_to(self, model: Model) -> None:
        """Bring the model to its number of workers. One task does so, however often it is asked."""
        if not model.in_hand:
            model.in_hand = True
            self._spawn(self._reach_wanted(model))

    async def _reach_wanted(self, model: Model) -> None:
        try:
            while self._lacks_workers(model):
                await asyncio.sleep(restart_delay(model.failures_in_a_row))
                if self._lacks_workers(model):
                    await self._start_another(model)
        finally:
            model.in_hand = False
            self._dismiss_surplus(model)

    def _lacks_workers(self, model: Model) -> bool:
        alive = model.state in (State.READY, State.RESTARTING) and not self.stopping
        return alive and model.ready_workers < model.wanted_workers

    async def _start_another(self, model: Model) -> None:
        """One that it must have, or one that it may have if there is memory for it."""
        assert model.listener is not None
        needed = model.ready_workers < model.plan.settings.min_workers
        try:
            if not needed:
                self._room.admit_worker(model)
            await self._workers.start(model, model.listener)
        except Exception as error:  # whatever it is, the next attempt must be possible
            if needed:
                await self._not_replaced(model, problem_of(error))
            else:
                self._do_without(model, problem_of(error))
        else:
            if not model.is_leaving:
                self._started(model)

    def _started(self, model: Model) -> None:
        model.failed_starts = 0
        if model.lost_workers:
            model.lost_workers -= 1
            model.restarts += 1
            self.restarts += 1
        self._accounts.settle(model)
        if model.state is State.RESTARTING:
            model_sockets.publish(model)
            model.move(State.READY)
        log.info("now %d processes", model.ready_workers, extra={"model": model.name})

    def _do_without(self, model: Model, problem: Problem) -> None:
        """Stay with the workers that there are, and do not try again at once."""
        self._resting_until[model] = time.monotonic() + _REST_SECONDS
        model.wanted_workers = max(model.ready_workers, model.plan.settings.min_workers)
        model.lost_workers = 0
        if model.state is State.READY:
            self._accounts.settle(model)
        log.warning("no further process: %s", problem.message, extra={"model": model.name})

    async def _not_replaced(self, model: Model, problem: Problem) -> None:
        model.failures_in_a_row += 1
        model.failed_starts += 1
        if model.failed_starts >= GIVE_UP_AFTER:
            await self._give_up(model, problem)

    async def _give_up(self, model: Model, problem: Problem) -> None:
        if model.state is not State.RESTARTING:  # it goes on with the workers that it has
            self._go_on_short(model, problem)
            return
        log.error("given up: %s", problem.message, extra={"model": model.name})
        model_sockets.remove(model)
        model.fail(problem)
        await self._workers.end(model, drain=False)
        if not model.is_leaving:
            model.hold({})

    def _go_on_short(self, model: Model, problem: Problem) -> None:
        model.wanted_workers = max(model.ready_workers, 1)
        self._resting_until[model] = time.monotonic() + RETRY_FAILED_AFTER_SECONDS
        self._short.add(model)
        text = "goes on with %d of %d processes: %s"
        count, least = model.ready_workers, model.plan.settings.min_workers
        log.error(text, count, least, problem.message, extra={"model": model.name})

    # --- demand ---------------------------------------------------------------------------------

    async def follow_demand(self) -> None:
        """Add and remove workers as requests come and go. Runs for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for model in list(self._short):
                self._restore(model)
            elastic = [model for model in self._looked_at() if model.state is State.READY]
            if elastic:
                await self._look_at(elastic)

    def _looked_at(self) -> list[Model]:
        """The models to look at this time: of thousands a part, so each once a second or so."""
        now = time.monotonic()
        if len(self._models) != self._known or now >= self._list_at:
            self._known, self._list_at = len(self._models), now + _LIST_SECONDS
            self._elastic = [model for model in self._models.values() if _is_elastic(model)]
        parts = 1 + len(self._elastic) // _MODELS_AT_A_LOOK
        self._turn += 1
        return self._elastic[self._turn % parts :: parts]

    def _restore(self, model: Model) -> None:
        """Try once more for the workers that it should have at least, when it has rested."""
        if model.state is not State.READY or self.stopping:
            self._short.discard(model)
        elif self._has_rested(model) and not model.in_hand:
            self._short.discard(model)
            model.wanted_workers = max(model.wanted_workers, model.plan.settings.min_workers)
            model.failed_starts = GIVE_UP_AFTER - 1  # one attempt
            self._see_to(model)

    def _has_rested(self, model: Model) -> bool:
        return time.monotonic() >= self._resting_until.get(model, 0.0)

    async def _look_at(self, models: list[Model]) -> None:
        """A queue can only be there when all workers are busy: only then the kernel is asked."""
        full = any(_busy(model) >= model.ready_workers for model in models)
        waiting = await asyncio.to_thread(waiting_connections) if full else {}
        for model in models:
            if model.state is State.READY and not self.stopping:
                batches = -(-waiting.get(model.inode, 0) // model.plan.settings.batch_size)
                self._adjust(model, _busy(model) + batches)

    def _adjust(self, model: Model, at_once: int) -> None:
        now = time.monotonic()
        settings = model.plan.settings
        wanted, self._demand[model] = wanted_workers(
            self._demand.get(model, Demand(0, now)),
            at_once=at_once,
            wanted=model.wanted_workers,
            bounds=Bounds(
                settings.min_workers, settings.max_workers, self._settings.worker_idle_seconds
            ),
            now=now,
        )
        if wanted > model.wanted_workers and self._has_rested(model):
            model.wanted_workers = wanted
            self._see_to(model)
        elif wanted < model.wanted_workers:
            model.wanted_workers = wanted
            self._dismiss_surplus(model)

    def _dismiss_surplus(self, model: Model) -> None:
        """Let those go that have been idle for longest; each finishes what it has in hand."""
        surplus = model.ready_workers - model.wanted_workers
        if surplus <= 0 or model.state is not State.READY:
            return
        idle = sorted(
            (worker for worker in model.workers if worker.ready and not worker.leaving),
            key=lambda worker: worker.idle_since_ns or float("inf"),
        )
        for worker in idle[:surplus]:
            worker.leaving = True
            worker.cut_leash()
        log.info("%d processes are enough", model.wanted_workers, extra={"model": model.name})


def _is_elastic(model: Model) -> bool:
    settings = model.plan.settings
    return settings.max_workers > settings.min_workers


def _busy(model: Model) -> int:
    return sum(worker.has_request for worker in model.workers if not worker.leaving)
