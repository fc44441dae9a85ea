"""What instances use, seen every few seconds: processors, memory, disk, GPUs, models in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from weakref import WeakKeyDictionary

from endpoint.fleets.fleet import CpuTime
from endpoint.instances.instance import Instance, Use
from endpoint.metrics import catalog
from endpoint.metrics.gpus import Gpus, GpuUse
from endpoint.metrics.measures import Measures, Of

log = logging.getLogger("modelyard.endpoint")

PAUSE_SECONDS = 10.0

# Two looks that are closer say little: the kernel counts hundredths of a second.
_LEAST_SECONDS = 0.5


class Sampling:
    """Samples the ``instances`` that serve, once ``measure`` has had them measured."""

    def __init__(
        self,
        measures: Measures,
        instances: Callable[[], Iterable[tuple[Of, Instance]]],
        measure: Callable[[], Awaitable[None]],
    ) -> None:
        self._measures = measures
        self._instances = instances
        self._measure = measure
        self._gpus = Gpus()
        self._cpu: WeakKeyDictionary[Instance, CpuTime] = WeakKeyDictionary()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sample from now on."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Sample no more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await asyncio.to_thread(self._gpus.close)

    async def sample(self) -> None:
        """One value of each metric for each instance, where it is known."""
        await self._measure()
        gpus = await asyncio.to_thread(self._gpus.read)
        for of, instance in self._instances():
            instance.use = self._use(instance, gpus)
            for metric, value in values(instance):
                self._measures.add(metric, of, value)

    async def _run(self) -> None:
        while True:
            try:
                await self.sample()
            except Exception:  # requests go on, and so must this
                log.exception("what instances use cannot be measured")
            await asyncio.sleep(PAUSE_SECONDS)

    def _use(self, instance: Instance, gpus: tuple[GpuUse, ...]) -> Use:
        container = instance.container
        if container is None:
            return Use()
        return Use(self._cpu_percent(instance, container.cpu()), gpus if container.has_gpus else ())

    def _cpu_percent(self, instance: Instance, now: CpuTime | None) -> float | None:
        """Since the look before; None at the first."""
        before = self._cpu.get(instance)
        if now is None or before is None:
            if now is not None:
                self._cpu[instance] = now
            return None
        seconds = now.at - before.at
        if seconds < _LEAST_SECONDS:
            return instance.use.cpu_percent
        self._cpu[instance] = now
        return max(100 * (now.used - before.used) / seconds, 0.0)


def values(instance: Instance) -> Iterable[tuple[catalog.Metric, float]]:
    """What is known of an instance, as of when it was last sampled; each in its metric's unit."""
    if instance.models is not None:
        used, budget = instance.models.disk_use
        yield catalog.LOADED_MODEL_COUNT, instance.models.loaded
        yield catalog.DISK_UTILIZATION, 100 * used / budget
    if instance.use.cpu_percent is not None:
        yield catalog.CPU_UTILIZATION, instance.use.cpu_percent
    memory = None if instance.container is None else instance.container.memory()
    if memory is not None and memory.used:  # else it has not been measured yet
        yield catalog.MEMORY_UTILIZATION, 100 * memory.used / memory.limit
    gpus = instance.use.gpus
    computing = [one.utilization_percent for one in gpus if one.utilization_percent is not None]
    if computing:
        yield catalog.GPU_UTILIZATION, sum(computing)
    if gpus:
        used_shares = (100 * one.used / one.limit for one in gpus if one.limit)
        yield catalog.GPU_MEMORY_UTILIZATION, sum(used_shares)
