"""What models take of each memory: predicted before a load, measured after it.

The decisions are those of ``memory``; here are the numbers that they are made with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from handlers.types import ModelPlan
from model_server import measuring
from model_server.background import beside
from model_server.gpus import Gpu, GpuProbe
from model_server.learned import Artifact, Footprint, Learned
from model_server.memory.ledger import MIB, RAM, Ledger, gpu_ledger, overrun
from model_server.memory.prediction import predict_worker_bytes
from model_server.model import Model, State, Worker
from model_server.placement import choose_gpu

log = logging.getLogger("modelyard.memory")

# So long the numbers of GPUs are waited for.
LOOK_LIMIT_SECONDS = 5.0

# Of a GPU's memory; the rest is for fragments that nobody can use.
USABLE_GPU_SHARE = 0.95

# Growth after the load is learned up to so many times what the load took, and so much more.
_GROWTH_LEARNED = 2
_GROWTH_LEARNED_BYTES = 64 * MIB

# Taken to be free on a GPU whose size nobody tells.
_UNCOUNTED_BYTES = 1 << 60


class Accounts:
    """The memory of all models.

    ``overhead_bytes()`` is what the server itself takes of the host's RAM, ``zygote_bytes`` what
    starting the zygote of a framework and an environment would add to that. A model holds what its
    ``resident`` says.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        limit_bytes: int,
        gpu_limit_bytes: int | None,
        overhead_bytes: Callable[[], int],
        zygote_bytes: Callable[[str, str], int],
        learned: Learned,
        gpus: GpuProbe,
    ) -> None:
        self._models = models
        self._limit_bytes = limit_bytes
        self._gpu_limit_bytes = gpu_limit_bytes
        self._overhead_bytes = overhead_bytes
        self._zygote_bytes = zygote_bytes
        self._learned = learned
        self._gpus = gpus
        self._devices: Sequence[Gpu] = ()
        self._on_devices: Mapping[int, Mapping[int, int]] = {}
        self._others: dict[int, int] = {}
        self._look: asyncio.Task[None] | None = None
        self._looked_ns = 0
        self._hangs = False

    # --- ledgers --------------------------------------------------------------------------------

    def ledgers(self) -> dict[str, Ledger]:
        """All memories as they stand, by name."""
        held: dict[str, int] = {}
        leaving: dict[str, int] = {}
        for model in self._models.values():
            for name, count in model.resident.held.items():
                leaves = model.leaving_bytes(name) if model.leaves else 0
                leaving[name] = leaving.get(name, 0) + leaves
                held[name] = held.get(name, 0) + count - leaves
        limits = {RAM: (self._limit_bytes, self._overhead_bytes())}
        for index, limit in self._gpu_limits().items():
            limits[gpu_ledger(index)] = (limit, self._others.get(index, 0))
        return {
            name: Ledger(name, limit, overhead, held.get(name, 0), leaving.get(name, 0))
            for name, (limit, overhead) in limits.items()
        }

    def has_ledger(self, name: str) -> bool:
        """Whether there is such a memory; a GPU may vanish."""
        return name == RAM or name in map(gpu_ledger, self._gpu_limits())

    @property
    def has_gpus(self) -> bool:
        """Whether any GPU has been seen."""
        return bool(self._devices)

    def _gpu_limits(self) -> dict[int, int]:
        """Of the GPUs of which it is known how large they are, or how much they may be used."""
        limits = {
            gpu.index: self._gpu_limit_bytes or int(gpu.total_bytes * USABLE_GPU_SHARE)
            for gpu in self._devices
        }
        return {index: limit for index, limit in limits.items() if limit}

    def ledger(self) -> Ledger:
        """The ledger of the host's RAM."""
        return self.ledgers()[RAM]

    @property
    def models_bytes(self) -> int:
        """What all models together may take of RAM; unlike a ledger, without adding them up."""
        return max(self._limit_bytes - self._overhead_bytes(), 0)

    def _taken_by_others(self, gpu: Gpu, pids: Collection[int]) -> int:
        """What processes other than these use of a GPU, as far as that can be told."""
        if not self._gpus.knows_processes:
            known = self._others.get(gpu.index, 0) if self._gpus.failed else 0
            return max(gpu.before_bytes, known)
        ours = sum(used.get(gpu.index, 0) for pid, used in self._on_devices.items() if pid in pids)
        return max(gpu.used_bytes - ours, 0)

    async def look_at_gpus(self) -> None:
        """Take what each GPU and each process on it uses, off the loop.

        Returns in any case after some seconds, and then the last numbers stay: a call to a broken
        driver may never return.
        """
        came_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(LOOK_LIMIT_SECONDS):
                while self._looked_ns < came_ns:
                    if self._look is None or self._look.done():
                        self._look = asyncio.create_task(self._look_now())
                    await asyncio.shield(self._look)
        except TimeoutError:
            if not self._hangs:
                log.warning("the GPUs' driver does not answer: their last numbers stay in force")
            self._hangs = True

    async def _look_now(self) -> None:
        began_ns, pids = time.monotonic_ns(), self._pids()
        devices, on_devices = await beside(self._read_gpus)
        if devices:
            self._on_devices = on_devices
        self._devices, self._looked_ns, self._hangs = devices, began_ns, False
        pids |= self._pids()  # those that have ended meanwhile are not others, nor are new ones
        self._others = {gpu.index: self._taken_by_others(gpu, pids) for gpu in devices}
        for model in self._models.values():
            if model.gpu is not None and model.state in (State.READY, State.PARKED):
                self.count(model)

    def _read_gpus(self) -> tuple[Sequence[Gpu], Mapping[int, Mapping[int, int]]]:
        devices = self._gpus.devices()
        return devices, self._gpus.process_bytes() if devices else {}

    def _pids(self) -> set[int]:
        return {worker.pid for model in self._models.values() for worker in model.processes}

    # --- before a load --------------------------------------------------------------------------

    def place(self, url: str, plan: ModelPlan) -> int | None:
        """The GPU for a model that is to be loaded; None is the CPU."""
        ledgers = self.ledgers()
        free = {gpu.index: _UNCOUNTED_BYTES for gpu in self._devices}
        for index in self._gpu_limits():
            free[index] = ledgers[gpu_ledger(index)].free_bytes
        load = dict.fromkeys(free, 0.0)
        for model in self._models.values():
            if model.gpu in load:
                load[model.gpu] += sum(worker.has_request for worker in model.workers)
        need = self._footprint(url, plan, on_gpu=bool(free)).gpu_bytes
        return choose_gpu(plan.settings.device, free, load, need)

    def need(self, model: Model) -> dict[str, int]:
        """What loading a model is predicted to take, in bytes by ledger."""
        footprint = self._footprint(model.url, model.plan, on_gpu=model.gpu is not None)
        peak = max(footprint.peak_bytes, model.least_bytes)
        # A peak that is larger than all there is may have been a mistake: it does not refuse.
        held = {RAM: max(footprint.ram_bytes, min(peak, self.models_bytes))}
        if model.gpu in self._gpu_limits():
            assert model.gpu is not None
            held[gpu_ledger(model.gpu)] = footprint.gpu_bytes
        return held

    def zygote_bytes(self, model: Model) -> int:
        """What a load would add to the server's own memory."""
        return self._zygote_bytes(model.plan.framework, model.environment_key)

    def load_seconds(self, model: Model) -> float:
        """What loading a model is predicted to take."""
        return self._footprint(model.url, model.plan, on_gpu=model.gpu is not None).load_seconds

    def _footprint(self, url: str, plan: ModelPlan, *, on_gpu: bool) -> Footprint:
        settings = plan.settings
        artifact = _artifact(url, plan, on_gpu=on_gpu)
        return self._learned.predict(artifact) or self._learned.typical(
            plan.framework,
            _own_weight_bytes(plan, on_gpu=on_gpu),
            settings.min_workers,
            settings.share_weights,
            on_gpu,
        )

    def worker_need(self, model: Model) -> dict[str, int]:
        """What one more worker will take, by ledger."""
        present = [worker.private_bytes for worker in model.workers if worker.ready]
        need = {RAM: predict_worker_bytes(present)}
        for name, count in model.resident.held.items():
            if name != RAM and model.ready_workers and self.has_ledger(name):
                need[name] = count // model.ready_workers
        return need

    # --- after a load ---------------------------------------------------------------------------

    def settle(self, model: Model, load_seconds: float = 0.0) -> None:
        """Count a model with what its processes were measured to take, and learn it.

        ``load_seconds`` is what the load took that has just been done, if one has.
        """
        self.count(model)
        if load_seconds:
            model.resident.unparked_bytes = None
        if load_seconds or not model.loaded_bytes:
            model.loaded_bytes = model.held_bytes
        if len(model.workers) == model.plan.settings.min_workers:
            gpu = gpu_ledger(model.gpu) if model.gpu is not None else ""
            held = model.resident.held
            # Whoever was parked may still hold a copy of what is on the GPU.
            unparked = model.resident.unparked_bytes
            ram = held[RAM] if unparked is None else unparked
            # A leak starts anew with each load: what it has come to is no use to predict that.
            ram = min(ram, _GROWTH_LEARNED * model.loaded_bytes + _GROWTH_LEARNED_BYTES)
            peak = model.loaded_bytes + model.passing_bytes
            artifact = _artifact(model.url, model.plan, on_gpu=model.gpu is not None)
            known = self._learned.predict(artifact)
            device = held.get(gpu, 0)
            if known is not None and not self.sees(model):  # what it holds was only expected
                device = known.gpu_bytes
            self._learned.learn(artifact, Footprint(ram, device, load_seconds, peak))

    def count(self, model: Model) -> None:
        """Count a model with what its processes were measured to take, and learn nothing."""
        held = {RAM: sum(worker.private_bytes for worker in model.processes)}
        if model.gpu is not None and model.gpu in self._gpu_limits():
            held[gpu_ledger(model.gpu)] = self._on_device(model, model.gpu)
        if not all(worker.ready for worker in model.processes):  # what they will take stays theirs
            for name, count in model.resident.held.items():
                held[name] = max(held.get(name, 0), count)
        model.hold(held)
        model.reserved = False

    def _on_device(self, model: Model, gpu: int) -> int:
        """What it takes of its GPU: measured, where all its processes could be seen."""
        taken = sum(self._on_devices.get(worker.pid, {}).get(gpu, 0) for worker in model.processes)
        if self.sees(model):
            return taken
        return max(taken, model.resident.held.get(gpu_ledger(gpu), 0))

    def sees(self, model: Model) -> bool:
        """Whether the latest look at the GPUs shows what all processes of a model take there."""
        latest_ns = max((worker.ready_ns for worker in model.processes), default=0)
        return self._gpus.knows_processes and latest_ns < self._looked_ns

    def check(self, model: Model) -> str:
        """Why there is less than nothing left where a model is; empty when that is not so."""
        ledgers = self.ledgers()
        for name in model.resident.held:
            if name in ledgers and (reason := overrun(ledgers[name])):
                return reason
        return ""

    async def measure(self, model: Model, workers: Collection[Worker]) -> None:
        """Measure workers now, off the loop."""
        for worker in workers:
            measured = await measuring.private_bytes(worker)
            if measured and worker.ready:
                # What a template shares with its forks is private to neither, but it is still held.
                shared = worker.private_bytes if worker.forks is not None else 0
                worker.private_bytes = max(measured, shared)
        if model.state is State.READY and model.workers:
            self.settle(model)


def _own_weight_bytes(plan: ModelPlan, *, on_gpu: bool) -> int:
    """The weights that will be in memory of the model's own, be it RAM or a GPU's."""
    return plan.weight_bytes if on_gpu else plan.weight_bytes - plan.mapped_bytes


def _artifact(url: str, plan: ModelPlan, *, on_gpu: bool) -> Artifact:
    return Artifact(
        url,
        plan.framework,
        _own_weight_bytes(plan, on_gpu=on_gpu),
        plan.settings.min_workers,
        on_gpu,
    )
