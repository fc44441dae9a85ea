"""What is done when models grow: they are measured, and others leave until all fit again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from model_server.accounts import Accounts
from model_server.model import Model, State, Worker
from model_server.processes.workers import Workers
from model_server.room import Room
from model_server.tasks import Tasks

# Soon after its first requests a worker is measured once more, and then this seldom unless the
# watch sees it grow: a measurement costs milliseconds for each GiB.
_SOON_SECONDS = 5.0
_SELDOM_SECONDS = 300.0


class GrowthRelief:
    """Answers the watch."""

    def __init__(
        self,
        models: Mapping[str, Model],
        workers: Workers,
        accounts: Accounts,
        room: Room,
        tasks: Tasks,
    ) -> None:
        self._models = models
        self._workers = workers
        self._accounts = accounts
        self._room = room
        self._tasks = tasks

    def grown(self, model: Model, worker: Worker, _estimated_bytes: int) -> None:
        """A worker takes noticeably more than it was counted with: know how much."""
        self._tasks.spawn(self.measure(model, worker))

    async def remeasure(self) -> None:
        """Measure what has been in use, soon and then seldom. Runs for ever."""
        looked_ns = 0
        while True:
            await asyncio.sleep(_SOON_SECONDS)
            since, looked_ns = looked_ns, time.monotonic_ns()
            for model, worker in self._workers.used_since(since):
                if worker.measured_at is None or _is_old(worker.measured_at):
                    worker.measured_at = time.monotonic()
                    await self.measure(model, worker)

    async def measure(self, model: Model, worker: Worker) -> None:
        """Measure a worker, and make room if models now hold more than there is."""
        before = model.resident.held
        await self._accounts.measure(model, [worker])
        if model.state is State.READY and self._accounts.check(model):
            held = model.resident.held
            grew = {name: (before.get(name, 0), count) for name, count in held.items()}
            self._room.relieve(model.name, grew=grew)

    def relieve(self, excess_bytes: int) -> bool:
        """Free so many bytes beyond what the ledger knows to be missing; whether that can be."""
        most = max(self._models.values(), key=_grown_bytes, default=None)
        free = self._accounts.ledger().free_bytes
        return most is not None and self._room.relieve(most.name, excess_bytes + free)


def _grown_bytes(model: Model) -> int:
    return sum(worker.grown_bytes for worker in model.processes)


def _is_old(measured_at: float) -> bool:
    return time.monotonic() - measured_at > _SELDOM_SECONDS
