"""Loads and unloads models: the only code that puts models into the table and takes them out.

Runs on the controller's event loop; a state is read and changed without an ``await`` in between,
so there are no locks. What may be slow (looking at directories, reading /proc) runs in threads.
"""

from __future__ import annotations

import asyncio
import logging

from archives.quoting import shown
from handlers.types import ModelPlan
from model_server import model_sockets, wire
from model_server.accounts import Accounts
from model_server.errors import (
    ModelExists,
    ModelNotFound,
    Problem,
    ProblemError,
    ServerError,
    ServerUnavailable,
    problem_of,
)
from model_server.eviction import Evictions
from model_server.memory.ledger import shown_bytes
from model_server.model import AWAY, Model, State
from model_server.processes.workers import Workers
from model_server.run_dir import RunDir
from model_server.settings import Settings
from model_server.starting import unloaded_meanwhile
from model_server.tasks import Tasks
from model_server.upkeep import Upkeep

log = logging.getLogger("modelyard.lifecycle")


class LoadCounts:
    """What has been loaded and unloaded since the start."""

    loads = failures = unloads = 0
    load_seconds = 0.0


class Lifecycle:
    """All models, by name, and what may be done with them."""

    def __init__(
        self,
        settings: Settings,
        run_dir: RunDir,
        models: dict[str, Model],
        *,
        accounts: Accounts,
        workers: Workers,
        upkeep: Upkeep,
        evictions: Evictions,
        tasks: Tasks,
    ) -> None:
        self.models = models
        self.counts = LoadCounts()
        self._settings = settings
        self._run_dir = run_dir
        self._accounts = accounts
        self._workers = workers
        self._upkeep = upkeep
        self._room = evictions.room
        self._starter = evictions.starter
        self._evictions = evictions
        self._tasks = tasks
        self._stopping = False
        self._drain_limit_seconds = settings.drain_timeout_seconds
        # Time limits of models that have one of their own, for the gateways.
        self.limits = wire.Limits(0, {})

    # --- what gateways ask for ------------------------------------------------------------------

    async def load(self, name: str, url: str, directory: str | None = None) -> None:
        """Load a model; returns when it can serve. Raises ServerError or HandlerError.

        ``directory`` is where it lies when the url does not say.
        """
        while True:
            self._check_running()
            await self._until_free(name)
            plan, environment_key = await asyncio.to_thread(self._starter.inspect, directory or url)
            if name not in self.models:
                break
        self._check_running()
        model = self._take_name(name, url, plan, environment_key)
        # Goes on when the caller leaves: whoever asks next finds the model loaded.
        await asyncio.shield(self._tasks.spawn(self._bring_up(model)))

    async def unload(self, name: str) -> None:
        """Unload a model; returns when its processes are gone and their memory is back."""
        model = self._find(name)
        was_loading = model.state is State.LOADING
        model.move(State.UNLOADING)
        model.leaves = tuple(model.resident.held)
        model_sockets.withdraw(model)
        while model.processes:
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
            if model.state in AWAY or model.returning is not None:
                self._check_running()
                try:
                    await self._evictions.bring_back(model)
                except ModelNotFound:
                    self._check_running()  # else whoever waited is told of our own unload
                    raise
            else:
                await model.settled.wait()

    async def make_room(self, name: str) -> None:
        """Return when some of a model's device, which was full, is free. Raises OutOfMemory."""
        await self._evictions.make_room(self._find(name))

    async def fate(self, name: str, key: int) -> Problem | None:
        """Why request ``key`` got no answer; None when no worker ever started it."""
        model = self.models.get(name)
        return await self._workers.fate(list(model.workers) if model else [], key)

    async def info(self, name: str) -> wire.ModelInfo:
        """Describe a model, its memory measured now."""
        model = self._find(name)
        await self._accounts.measure(model, list(model.processes))
        return model.info()

    def page(self, limit: int, after: str | None) -> wire.ModelPage:
        """The next ``limit`` models by name after ``after``."""
        names = sorted(name for name in self.models if after is None or name > after)
        chosen = names[:limit]
        models = [wire.ModelSummary(name, self.models[name].url) for name in chosen]
        return wire.ModelPage(models, chosen[-1] if len(names) > limit else None)

    # --- what the controller calls --------------------------------------------------------------

    async def abort_loads(self) -> None:
        """Load nothing more, and give up what is still loading; whoever waits for it hears so."""
        self._stopping = self._upkeep.stopping = True
        loading = [m.name for m in self.models.values() if m.state is State.LOADING]
        await asyncio.gather(*map(self.unload, loading), return_exceptions=True)

    async def close(self, drain_limit_seconds: float) -> None:
        """Drain and unload everything, within the limit."""
        self._drain_limit_seconds = drain_limit_seconds
        for model in list(self.models.values()):
            if model.state is not State.UNLOADING:
                self._tasks.spawn(self.unload(model.name))
        await self._tasks.finished()

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

    async def _until_free(self, name: str) -> None:
        """Wait for a load or unload of the same name. Raises what the caller then must hear."""
        while model := self.models.get(name):
            if model.settled.is_set() or model.state is State.RESTARTING:
                raise ModelExists(f"a model named {shown(name)} is loaded already")
            await model.settled.wait()
            if model.problem is not None and model.state is State.GONE:
                raise ProblemError(model.problem)

    def _take_name(self, name: str, url: str, plan: ModelPlan, environment_key: str) -> Model:
        model = Model(name, url, plan, self._run_dir.model_socket(name))
        model.environment_key = environment_key
        model.wanted_workers = plan.settings.min_workers
        self._room.uses.recall(model)
        self.models[name] = model
        return model

    async def _bring_up(self, model: Model) -> None:
        try:
            self._tell_limit(model)
            seconds = await self._starter.start(model, "load")
        except (Exception, BaseExceptionGroup) as error:  # whatever it is, the name must be free
            self.counts.failures += 1
            raise await self._failed_to_load(model, problem_of(error)) from error
        self.counts.loads += 1
        self.counts.load_seconds += seconds
        text = "loaded in %.3f s (%s, %s)"
        took = shown_bytes(model.held_bytes)
        log.info(text, seconds, model.plan.framework, took, extra={"model": model.name})

    def _tell_limit(self, model: Model) -> None:
        """Let the gateways know of a time limit that is not everybody's."""
        limit = model.plan.settings.request_timeout_seconds
        known = self.limits.seconds or {}
        if limit != known.get(model.name, self._settings.request_timeout_seconds):
            self.limits = wire.Limits(self.limits.version + 1, {**known, model.name: limit})

    def _forget_limit(self, name: str) -> None:
        known = self.limits.seconds or {}
        if name in known:
            others = {other: limit for other, limit in known.items() if other != name}
            self.limits = wire.Limits(self.limits.version + 1, others)

    async def _failed_to_load(self, model: Model, problem: Problem) -> ServerError:
        """Clean up and say why."""
        if model.is_leaving:  # whoever unloads it cleans up
            return unloaded_meanwhile(model)
        model.problem = problem
        log.error("load failed: %s", problem.message, extra={"model": model.name})
        await self._workers.end(model, drain=False)
        if not model.is_leaving:
            self._drop(model)
        return ProblemError(problem)

    def _drop(self, model: Model) -> None:
        model_sockets.remove(model)
        self._forget_limit(model.name)
        self._room.uses.remember(model)
        model.hold({})
        del self.models[model.name]
        model.move(State.GONE)
        self._room.changed()
