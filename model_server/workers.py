"""The worker processes of all models: started, watched, ended. Whose turn it is, is decided in
``lifecycle``; here is only how.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from model_server import wire
from model_server.children import describe_exit, group_is_gone, kill
from model_server.errors import (
    ModelTimeout,
    Problem,
    ProblemError,
    ServerUnavailable,
    WorkerDied,
)
from model_server.model import Model, Worker
from model_server.settings import Settings
from model_server.stats import LAST_USED_NS, STARTED, StatsTable
from model_server.zygotes import ZygotePool

log = logging.getLogger("modelyard.workers")

_REMEMBERED_FATES = 10_000
_FATE_WAIT_SECONDS = 2.0


class Workers:
    """Every worker, by pid. ``on_death(model, worker, code)`` hears of those that had loaded."""

    def __init__(
        self,
        settings: Settings,
        stats: StatsTable,
        zygotes: ZygotePool,
        on_death: Callable[[Model, Worker, int], None],
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._zygotes = zygotes
        self._on_death = on_death
        self.drain_limit_seconds = settings.drain_timeout_seconds
        self._ids = itertools.count(1)
        self._by_pid: dict[int, tuple[Model, Worker]] = {}
        # A death may be reported before the fork that it ends has been answered.
        self._unclaimed_exits: dict[int, int] = {}
        self._fates: OrderedDict[int, Problem] = OrderedDict()

    async def start(self, model: Model, listener: socket.socket) -> None:
        """Fork a worker and return when it has loaded. Raises why it has not."""
        limit = self._settings.load_timeout_seconds
        worker, far_end = self._new(model)
        try:
            async with asyncio.timeout(limit):
                await self._fork(model, worker, listener, far_end)
                word = await asyncio.shield(worker.word)
        except TimeoutError:
            kill(worker.pid)
            raise ModelTimeout(f"the load took more than {limit:g} seconds") from None
        if isinstance(word, wire.WorkerFailed):
            raise ProblemError(word.problem)
        if word is None or worker.exited.done():
            how = describe_exit(await worker.exited)
            raise WorkerDied(f"the model's process {how} while it was loading")
        worker.private_bytes = word.private_bytes
        worker.ready = True

    async def end(self, workers: Sequence[Worker], *, drain: bool) -> None:
        """Return when all are gone: after what is queued is done, within the limit, or at once."""
        exits = [worker.exited for worker in workers]
        if drain and exits:
            for worker in workers:
                worker.cut_leash()
            await asyncio.wait(exits, timeout=self.drain_limit_seconds)
        for worker in workers:
            if not worker.exited.done():
                worker.condemned = True
                kill(worker.pid)
        if exits:
            await asyncio.wait(exits)
        for worker in workers:
            if worker.pid:
                await group_is_gone(worker.pid)

    def told_of_exit(self, pid: int, code: int) -> None:
        """A zygote reports the death of a process that it forked."""
        if pid in self._by_pid:
            self._exited(pid, code)
        else:
            self._unclaimed_exits[pid] = code

    def reaped(self, pid: int, code: int) -> None:
        """The reaper found a child that nobody started here: a worker that had lost its zygote,
        or something the model's code left behind.
        """
        if pid in self._by_pid:
            kill(pid)  # its group: the zygote would have done it
            self._exited(pid, code)

    def _exited(self, pid: int, code: int) -> None:
        model, worker = self._by_pid.pop(pid)
        if worker.slot[STARTED]:
            self._remember_fate(worker, code)
        self._hear(worker)
        self._forget(model, worker, code)
        if worker.ready:
            self._on_death(model, worker, code)

    async def fate(self, workers: Iterable[Worker], key: int) -> Problem | None:
        """Why request ``key`` got no answer; None when no worker ever started it."""
        for worker in workers:
            if worker.slot[STARTED] and worker.request_key == key:
                await asyncio.wait([worker.exited], timeout=_FATE_WAIT_SECONDS)
                silent = WorkerDied("the model's process closed the connection without an answer")
                return self._fates.get(key, silent.problem())
        return self._fates.get(key)

    async def watch_time_limits(self) -> None:
        """End workers whose request is over its time limit. Runs for ever."""
        limit = self._settings.request_timeout_seconds
        while True:
            await asyncio.sleep(min(max(limit / 20, 0.05), 1.0))
            now = time.monotonic_ns()
            for model, worker in list(self._by_pid.values()):
                since = worker.busy_since_ns
                if since and now - since > limit * 1e9 and worker.verdict is None:
                    message = f"the request took more than {limit:g} seconds"
                    worker.verdict = ModelTimeout(message).problem()
                    log.error("%s; replacing the process", message, extra={"model": model.name})
                    kill(worker.pid)

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
        self, model: Model, worker: Worker, listener: socket.socket, far_end: socket.socket
    ) -> None:
        spec = wire.WorkerSpec(
            worker.worker_id,
            worker.slot_index,
            model.name,
            model.plan,
            self._settings.handler_options,
        )
        try:
            worker.pid = await self._zygotes.fork(spec, listener, far_end)
        except BaseException:
            self._forget(model, worker, -1)
            raise
        finally:
            far_end.close()
        self._by_pid[worker.pid] = (model, worker)
        if worker.condemned:
            kill(worker.pid)
        code = self._unclaimed_exits.pop(worker.pid, None)
        if code is not None:
            self._exited(worker.pid, code)

    def _hear(self, worker: Worker) -> None:
        """Take what the worker says of its load, if it has said anything."""
        try:
            data = worker.leash.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        asyncio.get_running_loop().remove_reader(worker.leash)
        if data and not worker.word.done():
            worker.word.set_result(wire.decode_worker_message(data))
        elif not worker.word.done():
            kill(worker.pid)  # its code closed the leash: it could never say that it is ready

    def _forget(self, model: Model, worker: Worker, code: int) -> None:
        asyncio.get_running_loop().remove_reader(worker.leash)
        worker.leash.close()
        if not worker.word.done():
            worker.word.set_result(None)
        worker.exited.set_result(code)
        model.workers.remove(worker)
        model.totals.add(worker.slot)
        self._stats.release(worker.slot_index)

    def _remember_fate(self, worker: Worker, code: int) -> None:
        died = WorkerDied(f"the model's process {describe_exit(code)} while it handled the request")
        self._fates[worker.request_key] = worker.verdict or died.problem()
        if len(self._fates) > _REMEMBERED_FATES:
            self._fates.popitem(last=False)
