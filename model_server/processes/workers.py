"""The worker processes of all models: started, watched, ended. Whose turn it is, is decided in
``lifecycle``; here is only how.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from handlers.types import Resources
from model_server import wire
from model_server.errors import (
    ModelTimeout,
    OutOfMemory,
    Problem,
    ProblemError,
    ServerUnavailable,
    WorkerDied,
)
from model_server.measuring import when_freed
from model_server.memory.overrun import Grown, own_overrun
from model_server.model import Model, Worker
from model_server.oom import OomKills
from model_server.processes.children import describe_exit, group_is_gone, kill
from model_server.processes.fork_channel import ForkChannel, ForkParentDied
from model_server.processes.moves import Moves
from model_server.processes.zygotes import Zygote, ZygotePool
from model_server.settings import Settings
from model_server.stats import FINISHED, LAST_USED_NS, STARTED, StatsTable

log = logging.getLogger("modelyard.workers")

_REMEMBERED_FATES = 10_000
_FATE_WAIT_SECONDS = 2.0

# A zygote writes to its pages again when it forks the next worker; the copies that it leaves belong
# to those forked before, and were not theirs yet when they measured themselves.
_LEFT_BY_ZYGOTE_BYTES = 400 << 10


class Workers:
    """Every worker, by pid. ``on_death(model, worker, code)`` hears of those that had loaded.

    ``on_used(model, times, now)`` hears how many requests a model has finished since the last time,
    at a time of ``time.monotonic()``. ``models_bytes()`` is what all models together may take.
    """

    def __init__(
        self,
        settings: Settings,
        stats: StatsTable,
        zygotes: ZygotePool,
        on_death: Callable[[Model, Worker, int], None],
        *,
        on_used: Callable[[Model, int, float], None] | None = None,
        models_bytes: Callable[[], int] | None = None,
        oom_kills: OomKills | None = None,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._zygotes = zygotes
        self._on_death = on_death
        self._on_used = on_used
        self._models_bytes = models_bytes
        self._oom_kills = oom_kills or OomKills()
        # By the slot of each worker that has been forked; ``loading`` are those that do not serve.
        self.by_slot: dict[int, tuple[Model, Worker]] = {}
        self.loading: set[int] = set()
        self._ids = itertools.count(1)
        self._by_pid: dict[int, tuple[Model, Worker]] = {}
        self._fates: OrderedDict[int, Problem] = OrderedDict()
        self._moves = Moves(self._death)

    async def start(self, model: Model, listener: socket.socket) -> None:
        """Add a worker and return when it has loaded. Raises why it has not.

        A model that may have several is loaded by a template first, which forks them.
        """
        if model.may_share and model.template is None:
            await self._start_surely(model, listener, template=True)
            if model.template is None:  # it cannot be forked once loaded: it is the first worker
                model.can_share = False
                return
        await self._start_surely(model, listener)

    async def _start_surely(
        self, model: Model, listener: socket.socket, *, template: bool = False
    ) -> None:
        try:
            await self._start(model, listener, template)
        except ForkParentDied:
            log.warning("the zygote died while forking; trying a new one")
        else:
            return
        # All anew: a fork that was lost may live, until it finds its leash cut.
        try:
            await self._start(model, listener, template)
        except ForkParentDied:
            raise ServerUnavailable("the model's zygote died twice") from None

    async def _start(self, model: Model, listener: socket.socket, template: bool) -> None:
        limit = self._settings.load_timeout_seconds
        worker, far_end = self._new(model)
        try:
            async with asyncio.timeout(limit):
                await self._fork(model, worker, listener, far_end, template)
                word = await asyncio.shield(worker.word)
        except TimeoutError:
            self._dismiss(model, worker)
            await worker.gone()
            raise ModelTimeout(f"the load took more than {limit:g} seconds") from None
        except BaseException:
            self._dismiss(model, worker)
            raise
        if isinstance(word, wire.WorkerFailed):
            self._dismiss(model, worker)  # it is leaving; do not let it linger
            await worker.gone()
            raise ProblemError(word.problem)
        if word is None or worker.exited.done():
            code = await worker.gone()
            raise ProblemError(worker.verdict or self._death(code, "while it was loading"))
        assert isinstance(word, wire.WorkerReady)
        if reason := own_overrun(_as_loaded(model, word)):
            self._dismiss(model, worker)
            await worker.gone()
            raise OutOfMemory(reason)
        worker.private_bytes = word.private_bytes + _LEFT_BY_ZYGOTE_BYTES
        model.passing_bytes += word.passing_bytes
        worker.can_park = word.can_park
        worker.ready_ns = time.monotonic_ns()
        worker.ready = True
        self.loading.discard(worker.slot_index)
        if word.can_fork:
            self._make_template(model, worker)

    async def park(self, model: Model) -> None:
        """Return when all its workers have left their GPU, after what they have queued.

        Raises ServerError when one of them could not: what it holds is unknown then.
        """
        await self._move(model, wire.Park(), self._settings.drain_timeout_seconds)

    async def restore(self, model: Model) -> None:
        """Return when all its workers are back on their GPU. Raises ServerError as ``park``."""
        await self._move(model, wire.Restore(), self._settings.load_timeout_seconds)

    async def _move(self, model: Model, order: wire.WorkerOrder, limit_seconds: float) -> None:
        workers = [worker for worker in model.workers if worker.ready and not worker.leaving]
        await self._moves.move(workers, order, limit_seconds)

    def _make_template(self, model: Model, worker: Worker) -> None:
        worker.forks = ForkChannel(
            worker.leash,
            on_worker_exit=self.told_of_exit,
            on_gone=lambda: self._template_hung_up(worker),
        )
        model.workers.remove(worker)
        if model.template is None:
            model.template = worker
        else:  # another was made at the same time
            worker.leaving = True
            self._kill(worker)

    def _template_hung_up(self, worker: Worker) -> None:
        """A template without its channel is of no use."""
        self._kill(worker)

    async def end(self, model: Model, *, drain: bool, limit_seconds: float | None = None) -> None:
        """Return when all are gone: after what is queued is done, within the limit, or at once."""
        workers = list(model.processes)
        for worker in workers:
            worker.leaving = True
            if not worker.pid:
                self._dismiss(model, worker)
        if drain and model.processes:
            for worker in model.processes:
                worker.cut_leash()
            limit = limit_seconds or self._settings.drain_timeout_seconds
            await asyncio.wait([worker.exited for worker in workers], timeout=limit)
        for worker in workers:
            self._dismiss(model, worker)
        for worker in workers:
            await worker.gone()
            if worker.pid:
                await group_is_gone(worker.pid)

    def _dismiss(self, model: Model, worker: Worker) -> None:
        """End a worker at once, also one whose fork has been asked for and is not there yet."""
        if worker.exited.done():
            return
        if worker.pid:
            self._kill(worker)
        else:
            self._forget(model, worker, -1)

    def _kill(self, worker: Worker) -> None:
        """Unless it has been waited for: its pid may be somebody else's by now."""
        if worker.pid in self._by_pid:
            kill(worker.pid)

    def told_of_exit(self, pid: int, code: int) -> None:
        """A process is gone: told by its zygote, or by the reaper when it had lost its zygote."""
        if pid in self._by_pid:
            self._exited(pid, code)

    def _exited(self, pid: int, code: int) -> None:
        model, worker = self._by_pid.pop(pid)
        when_freed(worker, lambda: self._bury(model, worker, code))

    def _bury(self, model: Model, worker: Worker, code: int) -> None:
        if worker.slot[STARTED]:
            self._remember_fate(worker, code)
        if worker.forks is None:
            self._hear(worker)
        self._forget(model, worker, code)
        if worker.ready:
            self._on_death(model, worker, code)

    async def fate(self, workers: Iterable[Worker], key: int) -> Problem | None:
        """Why request ``key`` got no answer; None when no worker ever started it."""
        for worker in workers:
            if worker.slot[STARTED] and key in worker.request_keys:
                await asyncio.wait([worker.exited], timeout=_FATE_WAIT_SECONDS)
                silent = WorkerDied("the model's process closed the connection without an answer")
                return self._fates.get(key, silent.problem())
        return self._fates.get(key)

    async def watch_time_limits(self) -> None:
        """End workers whose request is over its time limit. Runs for ever."""
        while True:
            limits = [model.plan.settings.request_timeout_seconds for model in self._models()]
            shortest = min([self._settings.request_timeout_seconds, *limits])
            await asyncio.sleep(min(max(shortest / 20, 0.05), 1.0))
            now = time.monotonic_ns()
            for model, worker in list(self._by_pid.values()):
                limit = model.plan.settings.request_timeout_seconds
                since = worker.busy_since_ns
                if since and now - since > limit * 1e9 and worker.verdict is None:
                    problem = ModelTimeout(f"the request took more than {limit:g} seconds")
                    self.stop_for(model, worker, problem.problem())

    def stop_for(self, model: Model, worker: Worker, problem: Problem) -> None:
        """End a worker at once; its requests, or its load, are told the problem."""
        worker.verdict = problem
        log.error("process stopped: %s", problem.message, extra={"model": model.name})
        self._kill(worker)

    def _models(self) -> set[Model]:
        return {model for model, _ in self._by_pid.values()}

    def used_since(self, moment_ns: int) -> list[tuple[Model, Worker]]:
        """Loaded workers that have finished a request after ``moment_ns``."""
        return [
            (model, worker)
            for model, worker in self._by_pid.values()
            if worker.ready and worker.slot[LAST_USED_NS] > moment_ns
        ]

    def _new(self, model: Model) -> tuple[Worker, socket.socket]:
        slot_index = self._stats.claim()
        if slot_index is None:
            raise ServerUnavailable("there are too many model processes; unload some models")
        loop = asyncio.get_running_loop()
        leash, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash.setblocking(False)
        worker = Worker(
            next(self._ids),
            slot_index,
            self._stats.slot(slot_index),
            leash,
            loop.create_future(),
            loop.create_future(),
        )
        model.workers.append(worker)
        loop.add_reader(leash, self._hear, worker)
        return worker, far_end

    async def _fork(
        self,
        model: Model,
        worker: Worker,
        listener: socket.socket,
        far_end: socket.socket,
        template: bool,
    ) -> None:
        spec = self._spec(model, worker, template)

        def register(pid: int) -> None:
            worker.pid = pid
            self._by_pid[pid] = self.by_slot[worker.slot_index] = (model, worker)
            self.loading.add(worker.slot_index)

        parent = self._parent(model)
        fork = asyncio.ensure_future(parent.fork(spec, listener, far_end, register))
        try:
            either: list[asyncio.Future[Any]] = [fork, worker.exited]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not fork.done():
                raise WorkerDied("the model's process was given up before it had started")
            fork.result()
        finally:
            fork.cancel()
            far_end.close()

    def _spec(self, model: Model, worker: Worker, template: bool) -> wire.WorkerSpec:
        settings = model.plan.settings
        return wire.WorkerSpec(
            worker.worker_id,
            worker.slot_index,
            model.name,
            model.plan,
            self._settings.handler_options,
            Resources(settings.threads, model.gpu),
            template,
            self._data_limit(model),
        )

    def _data_limit(self, model: Model) -> int | None:
        """What the kernel is to grant a process: the model's own limit, else all that there is.

        On a GPU only the model's own: CUDA reserves far more than it takes.
        """
        own = model.plan.settings.max_memory_bytes
        if own or model.gpu is not None or self._models_bytes is None:
            return own or None
        return self._models_bytes()

    def _parent(self, model: Model) -> Zygote | ForkChannel:
        """Who forks its workers: the template if there is one, else the zygote."""
        forks = model.template.forks if model.template else None
        if forks is not None and forks.alive:
            return forks
        return self._zygotes.get(model.plan.framework, model.environment)

    def _hear(self, worker: Worker) -> None:
        """Take what the worker says of its load or of a move, if it has said anything."""
        try:
            data = worker.leash.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(worker.leash)
            if not worker.word.done() or (worker in self._moves and not worker.leaving):
                self._kill(worker)  # its code closed the leash: we would wait for ever for its word
            return
        try:
            word = wire.decode_worker_message(data)
        except msgspec.MsgspecError:
            log.exception("a model's process says what it must not; ending it")
            self._kill(worker)
            return
        if not worker.word.done():
            worker.word.set_result(word)
        elif isinstance(word, wire.Moved):
            self._moves.heard(worker, word)

    def _forget(self, model: Model, worker: Worker, code: int) -> None:
        if worker.forks is not None:
            worker.forks.exited()  # which closes the leash, when what it has said is read
            model.template = None if model.template is worker else model.template
        else:
            asyncio.get_running_loop().remove_reader(worker.leash)
            worker.leash.close()
            model.workers.remove(worker)
        self.by_slot.pop(worker.slot_index, None)
        self.loading.discard(worker.slot_index)
        if not worker.word.done():
            worker.word.set_result(None)
        worker.exited.set_result(code)
        model.totals.add(worker.slot)
        self.count_uses(model, worker)
        self._stats.release(worker.slot_index)

    def count_uses(self, model: Model, worker: Worker) -> None:
        """Tell of the requests that a worker has finished since this was asked last."""
        times = worker.slot[FINISHED] - worker.counted_uses
        worker.counted_uses += times
        if times and self._on_used is not None:
            self._on_used(model, times, time.monotonic())

    def _death(self, code: int, meanwhile: str) -> Problem:
        """What became of a worker that nobody here has ended."""
        if code == -signal.SIGKILL and self._oom_kills.is_likely():
            return OutOfMemory(
                f"the kernel killed the model's process {meanwhile}, because the memory of this "
                "container was full. Give it more, or limit models that grow (max_memory_bytes)"
            ).problem()
        return WorkerDied(f"{meanwhile}, the model's process {describe_exit(code)}").problem()

    def _remember_fate(self, worker: Worker, code: int) -> None:
        problem = worker.verdict or self._death(code, "while it handled the request")
        for key in worker.request_keys:
            self._fates[key] = problem
        while len(self._fates) > _REMEMBERED_FATES:
            self._fates.popitem(last=False)


def _as_loaded(model: Model, word: wire.WorkerReady) -> Grown:
    return Grown(0, word.private_bytes, model.plan.settings.max_memory_bytes, is_loading=True)
