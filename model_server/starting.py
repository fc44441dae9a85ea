"""Starts the processes of a model, on its first load and whenever it comes back."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

from archives.extraction import model_root
from archives.quoting import shown
from handlers.inspection import inspect_model
from handlers.types import ModelPlan
from model_server import model_sockets
from model_server.accounts import Accounts
from model_server.environments.environments import Environments
from model_server.errors import (
    ModelFailed,
    OutOfMemory,
    Problem,
    ServerError,
    WorkerDied,
    problem_of,
)
from model_server.eviction_counts import EvictionCounts
from model_server.memory.ledger import gpu_ledger
from model_server.memory.prediction import GPU_FLOOR_BYTES
from model_server.model import Model, State
from model_server.model_dirs import resolve
from model_server.processes.workers import Workers
from model_server.room import Room
from model_server.settings import Settings

log = logging.getLogger("modelyard.lifecycle")

# Of weights in RAM to a GPU, before that was measured: what a PCI Express bus carries.
_UNPARK_BYTES_PER_SECOND = 10e9


class Starter:
    """Brings models from their directory into memory."""

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        room: Room,
        workers: Workers,
        environments: Environments,
        counts: EvictionCounts,
    ) -> None:
        self._settings = settings
        self._roots = settings.model_roots
        if not settings.multi_model:
            self._roots = (*self._roots, settings.model_dir, settings.extract_dir)
        self._accounts = accounts
        self._room = room
        self._workers = workers
        self._environments = environments
        self._counts = counts

    def inspect(self, directory: str) -> tuple[ModelPlan, str]:
        """How a directory is to be served, and the key of the environment that it needs.

        Reads files. Raises ServerError or HandlerError when it cannot be served.
        """
        plan = inspect_model(
            model_root(resolve(directory, self._roots)), self._settings.handler_options
        )
        needed = plan.requirements
        return plan, self._environments.key(needed) if needed is not None else ""

    async def start(self, model: Model, cause: str, began: float | None = None) -> float:
        """Have a LOADING model READY; the seconds that this took once there was room.

        ``began`` is since when it waits for room, if it has waited before.
        Raises why that cannot be; then its processes, if any, are the caller's to end.
        """
        asked_at = time.time()
        try:
            return await self._start(model, cause, began)
        except (Exception, BaseExceptionGroup) as error:  # also faults of ours
            self._room.load_failed(model, problem_of(error).message, asked_at)
            raise

    async def _start(self, model: Model, cause: str, began: float | None) -> float:
        await self._prepare(model, cause)
        try:
            return await self._try(model, cause, began)
        except (ServerError, BaseExceptionGroup) as error:
            problem = problem_of(error)
            if not self._is_worth_another_try(model, cause, problem):
                raise
            text = "the load is tried once more: %s"
            log.warning(text, problem.message, extra={"model": model.name})
        await self._workers.end(model, drain=False)
        self._check_wanted(model)
        model.hold({})
        return await self._try(model, cause, began)

    def _is_worth_another_try(self, model: Model, cause: str, problem: Problem) -> bool:
        """Whether it needs more room than was thought, or its process was killed on the way back.

        The first load is not repeated for a death: it may be the model's code that ends it.
        """
        if model.is_leaving:
            return False
        if problem.status == OutOfMemory.status:
            return model.least_bytes > model.held_bytes > 0
        return cause == "return" and problem.kind == WorkerDied.kind

    async def _try(self, model: Model, cause: str, began: float | None) -> float:
        model.passing_bytes = 0
        await self._room.take(model, self._accounts.need(model), cause, began)
        self._check_wanted(model)
        began = time.monotonic()
        await self._start_workers(model, model_sockets.listen(model, self._settings.queue_size))
        self.check_alive(model)
        model.load_seconds = time.monotonic() - began
        await self._weigh(model)
        self.check_alive(model)
        self._room.churn.loaded(time.monotonic(), model.load_seconds, model.evicted_at)
        self.show(model)
        return model.load_seconds

    def check_alive(self, model: Model) -> None:
        """Raise unless a LOADING model has its workers: until it is READY, nobody replaces them."""
        self._check_wanted(model)
        if model.ready_workers < model.wanted_workers:
            raise WorkerDied("a process of the model died right after it had loaded")

    def show(self, model: Model) -> None:
        """Open a model to requests."""
        model.resident.ready_at = time.monotonic()
        model_sockets.publish(model)
        model.move(State.READY)

    async def _prepare(self, model: Model, cause: str) -> None:
        """Choose its device, and make the environment that it needs, if it needs its own."""
        self._check_wanted(model)
        model.gpu = self._accounts.place(model.url, model.plan)
        if model.plan.requirements is not None:
            self._room.check(model, self._accounts.need(model), cause)
            model.environment = await self._environments.prepare(model.plan.requirements)
            self._check_wanted(model)

    async def _start_workers(self, model: Model, listener: socket.socket) -> None:
        """Start all of them at once, or after the first if they can share what it has loaded."""
        if model.may_share:
            await self._workers.start(model, listener)
        async with asyncio.TaskGroup() as group:
            for _ in range(model.wanted_workers - len(model.workers)):
                group.create_task(self._workers.start(model, listener))

    async def _weigh(self, model: Model) -> None:
        """Count what it took, and make room for what it took beyond its prediction."""
        if model.gpu is not None:
            await self._accounts.look_at_gpus()
            self._check_wanted(model)
        predicted = dict(model.resident.held)
        self._accounts.settle(model, model.load_seconds)
        for name, count in model.resident.held.items():
            self._counts.predicted(name, predicted.get(name, 0), count)
        model.resident.reload_seconds = self._accounts.load_seconds(model)
        self.may_park(model)
        await self._room.make_fit(model)

    def may_park(self, model: Model) -> None:
        """Note what it would hold while parked, if it can be."""
        resident, gpu = model.resident, model.gpu
        resident.parked_bytes = None
        able = model.workers and all(worker.can_park for worker in model.workers)
        if gpu is None or not able or not self._settings.gpu_parking:
            return
        on_device = resident.held.get(gpu_ledger(gpu), 0)
        rest = resident.parked_device_bytes or GPU_FLOOR_BYTES * len(model.workers)
        if on_device <= rest:
            return
        resident.parked_device_bytes = rest
        # After a return the host's copy may still be there: then it is held already.
        before = model.held_bytes if resident.unparked_bytes is None else resident.unparked_bytes
        resident.parked_bytes = max(model.held_bytes, before + on_device)
        if not resident.unpark_seconds:
            resident.unpark_seconds = on_device / _UNPARK_BYTES_PER_SECOND

    def _check_wanted(self, model: Model) -> None:
        """Raise when an unload has come in between."""
        if model.is_leaving:
            raise unloaded_meanwhile(model)


def unloaded_meanwhile(model: Model) -> ModelFailed:
    """What those hear who waited for the load of a model that was unloaded instead."""
    return ModelFailed(f"{shown(model.name)} was unloaded while it was loading")
