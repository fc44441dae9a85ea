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

from model_server import model_sockets, probe
from model_server.accounts import Accounts
from model_server.backoff import GIVE_UP_AFTER, RETRY_FAILED_AFTER_SECONDS, restart_delay
from model_server.errors import ModelFailed, Problem, ServerError, problem_of
from model_server.model import Model, State, Worker
from model_server.model_dirs import shown
from model_server.processes.children import describe_exit
from model_server.processes.workers import Workers
from model_server.scaling import Bounds, Demand, wanted_workers
from model_server.settings import Settings

log = logging.getLogger("modelyard.upkeep")

_LOOK_SECONDS = 0.1

# After a worker could not be added, for lack of memory or because it failed.
_REST_SECONDS = 10.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Upkeep:
    """Looks after the workers of all models. ``spawn`` runs work beside the caller."""

    def __init__(
        self,
        models: Mapping[str, Model],
        workers: Workers,
        accounts: Accounts,
        settings: Settings,
        spawn: Spawn,
    ) -> None:
        self.restarts = 0
        self.stopping = False
        self._models = models
        self._workers = workers
        self._accounts = accounts
        self._settings = settings
        self._spawn = spawn
        self._demand: dict[Model, Demand] = {}
        self._resting_until: dict[Model, float] = {}

    # --- deaths ---------------------------------------------------------------------------------

    def worker_died(self, model: Model, worker: Worker, code: int) -> None:
        """A worker that had loaded is gone: replace it, unless it or the model was to go."""
        if worker.leaving or model.state not in (State.READY, State.RESTARTING):
            return
        if worker.forks is not None:
            how = describe_exit(code)
            log.warning("the process that workers fork from %s", how, extra={"model": model.name})
            return
        model.failures_in_a_row = 0 if worker.has_served else model.failures_in_a_row + 1
        log.warning(
            "process %s; starting another", describe_exit(code), extra={"model": model.name}
        )
        if model.state is State.READY and not model.ready_workers:
            model.move(State.RESTARTING)
        self._fill_up(model)

    def retry(self, model: Model) -> None:
        """Try a failed model again when it has rested. Raises why not yet."""
        assert model.problem is not None
        wait = model.retry_at - time.monotonic()
        if wait > 0:
            raise ModelFailed(model.problem.message, retry_after_seconds=wait)
        key = model.environment.key if model.environment else ""
        need = self._accounts.admit(model.url, model.plan, key)
        model_sockets.listen(model, self._settings.queue_size)
        model.held_bytes = need
        model.wanted_workers = model.plan.settings.min_workers
        model.move(State.RESTARTING)
        model.failed_starts = GIVE_UP_AFTER - 1  # one attempt
        self._fill_up(model)

    def _fill_up(self, model: Model) -> None:
        if not model.reviving:
            self._spawn(self._start_missing(model))

    async def _start_missing(self, model: Model) -> None:
        """Start workers until the model has all of them again, or give it up.

        One of these for a model, however many of its workers die.
        """
        model.reviving = True
        try:
            while self._lacks_workers(model):
                await asyncio.sleep(restart_delay(model.failures_in_a_row))
                if self._lacks_workers(model):
                    await self._start_another(model)
        finally:
            model.reviving = False

    def _lacks_workers(self, model: Model) -> bool:
        alive = model.state in (State.READY, State.RESTARTING) and not self.stopping
        return alive and model.ready_workers < model.wanted_workers

    async def _start_another(self, model: Model) -> None:
        assert model.listener is not None
        try:
            await self._workers.start(model, model.listener)
        except (ServerError, OSError) as error:
            model.failures_in_a_row += 1
            model.failed_starts += 1
            if model.failed_starts >= GIVE_UP_AFTER:
                await self._give_up(model, problem_of(error))
        else:
            if not model.is_leaving:
                self._revived(model)

    def _revived(self, model: Model) -> None:
        model.failed_starts = 0
        model.restarts += 1
        self.restarts += 1
        self._accounts.settle(model)
        if model.state is State.RESTARTING:
            model_sockets.publish(model)
            model.move(State.READY)

    async def _give_up(self, model: Model, problem: Problem) -> None:
        if model.state is not State.RESTARTING:  # it goes on with the workers that it has
            model.wanted_workers = max(model.ready_workers, 1)
            self._resting_until[model] = time.monotonic() + RETRY_FAILED_AFTER_SECONDS
            text = "goes on with %d of %d processes: %s"
            count, least = model.ready_workers, model.plan.settings.min_workers
            log.error(text, count, least, problem.message, extra={"model": model.name})
            return
        text = f"{shown(model.name)} cannot be brought back: {problem.message}"
        model.problem = ModelFailed(text).problem()
        model.retry_at = time.monotonic() + RETRY_FAILED_AFTER_SECONDS
        log.error("given up: %s", problem.message, extra={"model": model.name})
        model_sockets.withdraw(model)
        model_sockets.close(model)
        model.move(State.FAILED)
        await self._workers.end(model, drain=False)
        self._accounts.settle(model)

    # --- demand ---------------------------------------------------------------------------------

    async def follow_demand(self) -> None:
        """Add and remove workers as requests come and go. Runs for ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            self._resting_until = {m: t for m, t in self._resting_until.items() if t > now}
            for model in self._models.values():
                self._restore(model)
            elastic = [model for model in self._models.values() if _is_elastic(model)]
            for gone in set(self._demand) - set(elastic):
                del self._demand[gone]
            if elastic:
                await self._look_at(elastic)

    def _restore(self, model: Model) -> None:
        """Try once more for the workers that it should have at least, when it has rested."""
        least = model.plan.settings.min_workers
        if model.state is not State.READY or model.wanted_workers >= least or self.stopping:
            return
        if model not in self._resting_until and not model.reviving:
            model.wanted_workers = least
            model.failed_starts = GIVE_UP_AFTER - 1  # one attempt
            self._fill_up(model)

    async def _look_at(self, models: list[Model]) -> None:
        """A queue can only be there when all workers are busy: only then the kernel is asked."""
        full = any(_busy(model) >= model.ready_workers for model in models)
        waiting = await asyncio.to_thread(probe.waiting_connections) if full else {}
        for model in models:
            if model.state is State.READY and not self.stopping:
                self._adjust(
                    model,
                    _busy(model)
                    + -(-waiting.get(model.inode, 0) // model.plan.settings.batch_size),
                )

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
        rested = model not in self._resting_until
        if wanted > model.wanted_workers and rested and not model.reviving:
            self._spawn(self._grow(model, wanted))
        elif wanted < model.wanted_workers:
            self._shrink(model, wanted)

    async def _grow(self, model: Model, wanted: int) -> None:
        """Start more workers, one after another, while there is memory for them."""
        model.reviving = True
        try:
            while model.wanted_workers < wanted and model.state is State.READY:
                need = self._accounts.admit_worker(model)
                model.held_bytes += need
                model.wanted_workers += 1
                await self._add_one(model)
        except (ServerError, OSError) as error:
            self._resting_until[model] = time.monotonic() + _REST_SECONDS
            reason = problem_of(error).message
            log.warning("no further process: %s", reason, extra={"model": model.name})
        finally:
            model.reviving = False
            if self._lacks_workers(model):
                self._fill_up(model)

    async def _add_one(self, model: Model) -> None:
        assert model.listener is not None
        try:
            await self._workers.start(model, model.listener)
        except BaseException:
            model.wanted_workers -= 1
            raise
        finally:
            if model.state is State.READY:
                self._accounts.settle(model)
        log.info("now %d processes", model.ready_workers, extra={"model": model.name})

    def _shrink(self, model: Model, wanted: int) -> None:
        """Let those go that have been idle for longest; each finishes what it has in hand."""
        model.wanted_workers = wanted
        idle = sorted(
            (worker for worker in model.workers if worker.ready and not worker.leaving),
            key=lambda worker: worker.idle_since_ns or float("inf"),
        )
        for worker in idle[: max(len(idle) - wanted, 0)]:
            worker.leaving = True
            worker.cut_leash()
        log.info("now %d processes", wanted, extra={"model": model.name})


def _is_elastic(model: Model) -> bool:
    settings = model.plan.settings
    return settings.max_workers > settings.min_workers and model.state is State.READY


def _busy(model: Model) -> int:
    return sum(worker.has_request for worker in model.workers if not worker.leaving)
