"""One container of an engine: whether it runs, what memory it takes, what it printed last."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint.fleets import control_group
from endpoint.fleets.engine import Engine
from endpoint.fleets.fleet import CpuTime, FleetError, InstanceSpec, MemoryUse, Record

MODELS_IN_CONTAINER = "/opt/ml/models"

_LINES, _LAST_WORDS_BYTES = 40, 2000
_OVER = ("exited", "dead", "stopped", "removing")


class DockerContainer:
    """A container that was started. Its fleet has it ``look`` when it may have ended."""

    def __init__(
        self, spec: InstanceSpec, engine: Engine, found: Any, url: str, *, has_gpus: bool = False
    ) -> None:
        """``has_gpus``: the engine gives it those of the machine."""
        self.url = url
        self.has_gpus = has_gpus
        self.record: Record = {"container": found.id}
        self.models = spec.models
        self._engine = engine
        self._found = found
        self._memory: MemoryUse | None = None
        self._cpu: CpuTime | None = None
        self._last_words = ""  # once it has ended
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as we have seen."""
        return not self._ended.done()

    def path(self, directory: Path) -> str:
        """Below /opt/ml/models, where ``models`` is mounted."""
        inner = directory.absolute().relative_to(self.models.absolute()).as_posix()
        return f"{MODELS_IN_CONTAINER}/{inner}"

    async def ended(self) -> str:
        """Return when it has ended, with how."""
        return await asyncio.shield(self._ended)

    async def stop(self, timeout_seconds: float) -> None:
        """Stop it as the engine does, and remove it."""
        seconds = math.ceil(timeout_seconds)
        await self._engine.find(lambda _: self._found.stop(timeout=seconds))
        await self.look()
        await self._engine.find(lambda _: self._found.remove(force=True, v=True))
        self._end("was stopped")

    def memory(self) -> MemoryUse | None:
        """What it took when it was last measured."""
        return self._memory

    def cpu(self) -> CpuTime | None:
        """What it had used when it was last measured."""
        return self._cpu

    async def measure(self) -> MemoryUse | None:
        """What it takes now; by the engine, slowly, only where its control group is out of sight.

        Its limit is the engine's word, which is asked for once.
        """
        told = self._memory
        used = control_group.used_bytes(self._pid, self._found.id) if told else None
        if told is not None and used is not None:
            self._memory = MemoryUse(used, told.limit)
            seconds = control_group.cpu_seconds(self._pid, self._found.id)
            self._cpu = None if seconds is None else CpuTime(seconds, time.monotonic())
        elif self.running:
            with suppress(FleetError):  # it may have ended just now: the next look tells
                stats = await self._engine.find(lambda _: self._weighed()) or {}
                self._memory, self._cpu = _memory_use(stats), _cpu_time(stats)
        return self._memory

    async def last_words(self) -> str:
        """The end of its output."""
        if self.running:
            with suppress(FleetError):
                return await self._engine.find(lambda _: self._printed()) or ""
        return self._last_words

    async def look(self) -> None:
        """See whether it has ended, and how. Raises FleetError if the engine does not say."""
        if not self.running:
            return
        state = await self._engine.find(lambda _: self._seen())
        if state is None:
            self._end("was removed")
        elif state.get("Status") in _OVER:
            self._last_words = await self._engine.find(lambda _: self._printed()) or ""
            self._end(_how(state))

    @property
    def _pid(self) -> int:
        """Of its first process, on this machine."""
        return int(self._found.attrs["State"].get("Pid") or 0)

    def _seen(self) -> Mapping[str, Any]:
        self._found.reload()
        state: Mapping[str, Any] = self._found.attrs["State"]
        return state

    def _printed(self) -> str:
        text: bytes = self._found.logs(tail=_LINES)[-_LAST_WORDS_BYTES:]
        return text.decode("utf-8", "replace").strip()

    def _weighed(self) -> Mapping[str, Any]:
        stats: Mapping[str, Any] = self._found.stats(stream=False, one_shot=True)
        return stats

    def _end(self, words: str) -> None:
        if self.running:
            self._ended.set_result(words)


def _how(state: Mapping[str, Any]) -> str:
    code = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        return "was killed because its memory limit was reached"
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return f"exited with code {code}"
    hint = ", perhaps by the kernel for want of memory" if name == "SIGKILL" else ""
    return f"exited with code {code} ({name}{hint})"


def _memory_use(stats: Mapping[str, Any]) -> MemoryUse | None:
    """Without page cache that the kernel takes back first, as ``docker stats`` shows it."""
    memory = stats.get("memory_stats") or {}
    used, limit = memory.get("usage"), memory.get("limit")
    if not used or not limit:
        return None
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return MemoryUse(max(used - cache, 0), limit)


def _cpu_time(stats: Mapping[str, Any]) -> CpuTime | None:
    used = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    return CpuTime(used / 1e9, time.monotonic()) if used else None
