"""What models take of the memory: predicted before a load, measured after it.

The decisions are those of ``memory``; here are the numbers that they are made with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from handlers.types import ModelPlan
from model_server import probe
from model_server.errors import OutOfMemory
from model_server.memory.ledger import RAM, Ledger, overrun, refusal
from model_server.memory.prediction import predict_bytes, predict_worker_bytes
from model_server.model import Model, State, Worker

_REMEMBERED = 20_000


class Accounts:
    """The memory of all models.

    ``overhead_bytes()`` is what the server itself takes, ``zygote_bytes(model)`` what starting the
    zygote of a model would add to that.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        limit_bytes: int,
        overhead_bytes: Callable[[], int],
        zygote_bytes: Callable[[str, str], int],
    ) -> None:
        self._models = models
        self._limit_bytes = limit_bytes
        self._overhead_bytes = overhead_bytes
        self._zygote_bytes = zygote_bytes
        # What a model took the last time, by url and number of workers.
        self._learned_bytes: dict[tuple[str, int], int] = {}

    def ledger(self) -> Ledger:
        """Memory as it stands."""
        return Ledger(
            RAM,
            limit_bytes=self._limit_bytes,
            overhead_bytes=self._overhead_bytes(),
            held_bytes=sum(model.held_bytes for model in self._models.values()),
        )

    def admit(self, url: str, plan: ModelPlan, environment_key: str) -> int:
        """What a load is predicted to take. Raises OutOfMemory when that does not fit."""
        settings = plan.settings
        need = predict_bytes(
            weight_bytes=plan.weight_bytes,
            learned_bytes=self._learned_bytes.get((url, settings.min_workers)),
            workers=settings.min_workers,
            shared=settings.share_weights,
        )
        zygote = self._zygote_bytes(plan.framework, environment_key)
        if reason := refusal(need + zygote, self.ledger()):
            raise OutOfMemory(reason)
        return need

    def admit_worker(self, model: Model) -> int:
        """What one more worker of a model will take. Raises OutOfMemory when that does not fit."""
        need = predict_worker_bytes(
            [worker.private_bytes for worker in model.workers if worker.ready]
        )
        if reason := refusal(need, self.ledger()):
            raise OutOfMemory(reason)
        return need

    def settle(self, model: Model) -> None:
        """Count a model with what its processes were measured to take."""
        model.held_bytes = sum(worker.private_bytes for worker in model.processes)
        if len(model.workers) == model.plan.settings.min_workers:
            self._learn((model.url, len(model.workers)), model.held_bytes)

    def _learn(self, key: tuple[str, int], taken_bytes: int) -> None:
        self._learned_bytes.pop(key, None)
        self._learned_bytes[key] = taken_bytes
        while len(self._learned_bytes) > _REMEMBERED:
            del self._learned_bytes[next(iter(self._learned_bytes))]

    def check(self, model: Model) -> None:
        """Raise OutOfMemory when a model that has just loaded took more than there was."""
        if reason := overrun(model.held_bytes, self.ledger()):
            raise OutOfMemory(reason)

    async def measure(self, model: Model, workers: Sequence[Worker]) -> None:
        """Measure workers now, off the loop."""
        for worker in workers:
            measured = await asyncio.to_thread(probe.private_bytes, worker.pid)
            if measured and worker.ready:
                # What a template shares with its forks is private to neither, but it is still held.
                shared = worker.private_bytes if worker.forks is not None else 0
                worker.private_bytes = max(measured, shared)
        if model.state is State.READY and model.workers:
            self.settle(model)
