"""Loads, restarts and unloads models: the only code that changes what is loaded.

Runs on the controller's event loop; a state is read and changed without an ``await`` in between,
so there are no locks. What may be slow (looking at directories, reading /proc) runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from handlers.errors import HandlerError
from handlers.inspection import inspect_model
from handlers.types import ModelPlan
from model_server import memory, probe, wire
from model_server.backoff import GIVE_UP_AFTER, RETRY_FAILED_AFTER_SECONDS, restart_delay
from model_server.children import describe_exit
from model_server.errors import (
    ModelExists,
    ModelFailed,
    ModelNotFound,
    OutOfMemory,
    Problem,
    ProblemError,
    ServerError,
    ServerUnavailable,
    WorkerDied,
    problem_of_text,
)
from model_server.model import Model, State, Worker
from model_server.model_dirs import resolve, shown
from model_server.run_dir import RunDir
from model_server.settings import Settings
from model_server.workers import Workers

log = logging.getLogger("modelyard.lifecycle")

_REMEASURE_SECONDS = 10.0


class LoadCounts:
    """What has been loaded and unloaded since the start."""

    loads = failures = unloads = restarts = 0
    load_seconds = 0.0


class Lifecycle:
    """All models, by name, and what may be done with them."""

    def __init__(
        self,
        settings: Settings,
        run_dir: RunDir,
        *,
        limit_bytes: int,
        overhead_bytes: Callable[[], int],
        zygote_bytes: Callable[[str], int],
    ) -> None:
        self.models: dict[str, Model] = {}
        self.counts = LoadCounts()
        self._settings = settings
        self._run_dir = run_dir
        self._limit_bytes = limit_bytes
        self._roots = settings.model_roots
        if not settings.multi_model:
            self._roots = (*self._roots, settings.model_dir)
        self._overhead_bytes = overhead_bytes
        self._zygote_bytes = zygote_bytes
        self._learned_bytes: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers: Workers
        self._stopping = False
        self._drain_limit_seconds = settings.drain_timeout_seconds

    def use(self, workers: Workers) -> None:
        """Where processes come from. Call once, before anything else."""
        self._workers = workers

    # --- what gateways ask for ------------------------------------------------------------------

    async def load(self, name: str, url: str) -> None:
        """Load a model; returns when it can serve. Raises ServerError or HandlerError."""
        while True:
            self._check_running()
            await self._until_free(name)
            plan = await asyncio.to_thread(self._inspect, url)
            if name not in self.models:
                break
        self._check_running()
        model = self._reserve(name, url, plan)
        # Goes on when the caller leaves: whoever asks next finds the model loaded.
        await asyncio.shield(self._spawn(self._bring_up(model)))

    async def unload(self, name: str) -> None:
        """Unload a model; returns when its processes are gone and their memory is back."""
        model = self._find(name)
        was_loading = model.state is State.LOADING
        model.move(State.UNLOADING)
        self._withdraw(model)
        while model.workers:
            limit = self._drain_limit_seconds
            await self._workers.end(model, drain=not was_loading, limit_seconds=limit)
        self._drop(model)
        self.counts.unloads += 1
        log.info("unloaded", extra={"model": name})

    async def ensure(self, name: str) -> None:
        """Return when the model's socket is there. Raises ServerError when it will not be."""
        while True:
            model = self._find(name)
            if model.state is State.READY:
                return
            if model.state is State.FAILED:
                self._retry(model)
            await model.settled.wait()

    async def fate(self, name: str, key: int) -> Problem | None:
        """Why request ``key`` got no answer; None when no worker ever started it."""
        model = self.models.get(name)
        return await self._workers.fate(list(model.workers) if model else [], key)

    async def info(self, name: str) -> wire.ModelInfo:
        """Describe a model, its memory measured now."""
        model = self._find(name)
        await self._measure(model, list(model.workers))
        return model.info()

    def page(self, limit: int, after: str | None) -> wire.ModelPage:
        """The next ``limit`` models by name after ``after``."""
        names = sorted(name for name in self.models if after is None or name > after)
        chosen = names[:limit]
        models = [wire.ModelSummary(name, self.models[name].url) for name in chosen]
        return wire.ModelPage(models, chosen[-1] if len(names) > limit else None)

    # --- what the controller calls --------------------------------------------------------------

    def worker_died(self, model: Model, worker: Worker, code: int) -> None:
        """A worker that had loaded is gone: replace it, unless the model is on its way out."""
        if model.state not in (State.READY, State.RESTARTING):
            return
        model.failures_in_a_row = 0 if worker.has_served else model.failures_in_a_row + 1
        log.warning(
            "process %s; starting another", describe_exit(code), extra={"model": model.name}
        )
        if model.state is State.READY and not any(other.ready for other in model.workers):
            model.move(State.RESTARTING)
        if not model.reviving:
            self._spawn(self._revive(model))

    async def remeasure(self) -> None:
        """Measure models that were used since the last time: memory grows with the first requests.

        Runs for ever.
        """
        measured_ns = 0
        while True:
            await asyncio.sleep(_REMEASURE_SECONDS)
            since, measured_ns = measured_ns, time.monotonic_ns()
            for model, worker in self._workers.used_since(since):
                await self._measure(model, [worker])

    async def abort_loads(self) -> None:
        """Load nothing more, and give up what is still loading; whoever waits for it hears so."""
        self._stopping = True
        loading = [m.name for m in self.models.values() if m.state is State.LOADING]
        await asyncio.gather(*map(self.unload, loading), return_exceptions=True)

    async def close(self, drain_limit_seconds: float) -> None:
        """Drain and unload everything, within the limit."""
        self._drain_limit_seconds = drain_limit_seconds
        for model in list(self.models.values()):
            if model.state is not State.UNLOADING:
                self._spawn(self.unload(model.name))
        while self._tasks:
            await asyncio.wait(self._tasks)

    def ledger(self) -> memory.Ledger:
        """Memory as it stands."""
        return memory.Ledger(
            limit_bytes=self._limit_bytes,
            overhead_bytes=self._overhead_bytes(),
            held_bytes=sum(model.held_bytes for model in self.models.values()),
        )

    # --- how ------------------------------------------------------------------------------------

    def _check_running(self) -> None:
        """Raise when nothing may be loaded any more."""
        if self._stopping:
            raise ServerUnavailable("the server is stopping")

    def _find(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None or model.state is State.UNLOADING:
            raise ModelNotFound(f"no model named {shown(name)} is loaded; POST /models loads one")
        return model

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServerError | HandlerError):
            log.error("unexpected: %r", error, exc_info=error)

    async def _until_free(self, name: str) -> None:
        """Wait for a load or unload of the same name. Raises what the caller then must hear."""
        while model := self.models.get(name):
            if model.settled.is_set() or model.state is State.RESTARTING:
                raise ModelExists(f"a model named {shown(name)} is loaded already")
            await model.settled.wait()
            if model.problem is not None and model.state is State.GONE:
                raise ProblemError(model.problem)

    def _inspect(self, url: str) -> ModelPlan:
        directory = resolve(url, self._roots)
        return inspect_model(directory, self._settings.handler_options)

    def _reserve(self, name: str, url: str, plan: ModelPlan) -> Model:
        """Take the memory and the name, in one step."""
        need = self._admitted_bytes(plan)
        model = Model(name, url, plan, self._run_dir.model_socket(name), held_bytes=need)
        self.models[name] = model
        return model

    def _admitted_bytes(self, plan: ModelPlan) -> int:
        """What the model is predicted to take. Raises OutOfMemory when that does not fit."""
        need = memory.predict_bytes(
            weight_bytes=plan.weight_bytes,
            learned_bytes=self._learned_bytes.get(plan.model_dir),
            workers=plan.settings.min_workers,
        )
        zygote = self._zygote_bytes(plan.framework)
        if reason := memory.refusal(need + zygote, self.ledger()):
            self.counts.failures += 1
            raise OutOfMemory(reason)
        return need

    async def _bring_up(self, model: Model) -> None:
        started = time.monotonic()
        try:
            self._check_wanted(model)
            await self._start_workers(model, self._listen(model))
            self._check_wanted(model)
        except (ServerError, OSError, BaseExceptionGroup) as error:
            self.counts.failures += 1
            raise await self._failed_to_load(model, problem_of(error)) from error
        model.load_seconds = time.monotonic() - started
        self.counts.loads += 1
        self.counts.load_seconds += model.load_seconds
        self._publish(model)
        model.move(State.READY)
        seconds, mib = model.load_seconds, model.held_bytes >> 20
        text = "loaded in %.3f s (%s, %d MiB)"
        log.info(text, seconds, model.plan.framework, mib, extra={"model": model.name})

    def _check_wanted(self, model: Model) -> None:
        """Raise when an unload has come in between."""
        if model.is_leaving:
            raise _unloaded_meanwhile(model)

    async def _start_workers(self, model: Model, listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(model.plan.settings.min_workers):
                group.create_task(self._workers.start(model, listener))
        if len(model.workers) < model.plan.settings.min_workers:
            raise WorkerDied("a process of the model died right after it had loaded")
        self._account(model)
        self._learned_bytes[model.plan.model_dir] = model.held_bytes // len(model.workers)
        if reason := memory.overrun(model.held_bytes, self.ledger()):
            raise OutOfMemory(reason)

    async def _failed_to_load(self, model: Model, problem: Problem) -> ServerError:
        """Clean up and say why."""
        if model.is_leaving:  # whoever unloads it cleans up
            return _unloaded_meanwhile(model)
        model.problem = problem
        log.error("load failed: %s", problem.message, extra={"model": model.name})
        await self._workers.end(model, drain=False)
        if not model.is_leaving:
            self._drop(model)
        return ProblemError(problem)

    async def _revive(self, model: Model) -> None:
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
        alive = model.state in (State.READY, State.RESTARTING) and not self._stopping
        ready = sum(worker.ready for worker in model.workers)
        return alive and ready < model.plan.settings.min_workers

    async def _start_another(self, model: Model) -> None:
        assert model.listener is not None
        try:
            await self._workers.start(model, model.listener)
        except (ServerError, OSError) as error:
            model.failures_in_a_row += 1
            model.failed_starts += 1
            if model.failed_starts >= GIVE_UP_AFTER:
                self._give_up(model, problem_of(error))
        else:
            if not model.is_leaving:
                self._revived(model)

    def _revived(self, model: Model) -> None:
        model.failed_starts = 0
        model.restarts += 1
        self.counts.restarts += 1
        self._account(model)
        if model.state is State.RESTARTING:
            self._publish(model)
            model.move(State.READY)

    def _give_up(self, model: Model, problem: Problem) -> None:
        if model.state is not State.RESTARTING:  # it goes on with the workers that it has
            return
        text = f"{shown(model.name)} cannot be brought back: {problem.message}"
        model.problem = ModelFailed(text).problem()
        model.retry_at = time.monotonic() + RETRY_FAILED_AFTER_SECONDS
        log.error("given up: %s", problem.message, extra={"model": model.name})
        self._withdraw(model)
        self._close_listener(model)
        model.held_bytes = 0
        model.move(State.FAILED)

    def _retry(self, model: Model) -> None:
        """Try a failed model again when it has rested. Raises why not yet."""
        assert model.problem is not None
        wait = model.retry_at - time.monotonic()
        if wait > 0:
            raise ModelFailed(model.problem.message, retry_after_seconds=wait)
        self._check_running()
        need = self._admitted_bytes(model.plan)
        self._listen(model)
        model.held_bytes = need
        model.move(State.RESTARTING)
        model.failed_starts = GIVE_UP_AFTER - 1  # one attempt
        self._spawn(self._revive(model))

    def _listen(self, model: Model) -> socket.socket:
        """Make the model's socket where nobody finds it yet; its backlog is the queue."""
        hidden = f"{model.socket_path}.new"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            Path(hidden).unlink()
        listener.bind(hidden)
        listener.listen(self._settings.queue_size)
        model.listener = listener
        model.inode = os.fstat(listener.fileno()).st_ino
        return listener

    def _publish(self, model: Model) -> None:
        """Show the socket: from now on the model is hot."""
        with suppress(FileNotFoundError):  # after a restart it is in place already
            Path(f"{model.socket_path}.new").rename(model.socket_path)

    def _withdraw(self, model: Model) -> None:
        """Hide the socket: new requests ask the controller first."""
        for path in (model.socket_path, f"{model.socket_path}.new"):
            Path(path).unlink(missing_ok=True)

    def _close_listener(self, model: Model) -> None:
        if model.listener is not None:
            model.listener.close()
            model.listener = None

    def _drop(self, model: Model) -> None:
        self._withdraw(model)
        self._close_listener(model)
        del self.models[model.name]
        model.move(State.GONE)

    def _account(self, model: Model) -> None:
        model.held_bytes = sum(worker.private_bytes for worker in model.workers)

    async def _measure(self, model: Model, workers: Sequence[Worker]) -> None:
        for worker in workers:
            measured = await asyncio.to_thread(probe.private_bytes, worker.pid)
            if measured and worker.ready:
                worker.private_bytes = measured
        if model.state is State.READY and model.workers:
            self._account(model)
            self._learned_bytes[model.plan.model_dir] = model.held_bytes // len(model.workers)


def _unloaded_meanwhile(model: Model) -> ModelFailed:
    return ModelFailed(f"{shown(model.name)} was unloaded while it was loading")


def problem_of(error: BaseException) -> Problem:
    """An error as data; of several at once, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ServerError():
            return error.problem()
        case HandlerError():
            return problem_of_text(error.status, error.kind, error.message)
        case _:
            return ServerError(f"{type(error).__name__}: {error}").problem()
