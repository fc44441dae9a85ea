"""One container of an engine, looked at once a second: whether it runs, what memory it takes.

Looking, and not waiting in one long call for its end, goes on when the engine is started again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint.fleets import control_group
from endpoint.fleets.engine import Engine
from endpoint.fleets.fleet import FleetError, InstanceSpec, MemoryUse, Record

log = logging.getLogger("modelyard.fleets")

MODELS_IN_CONTAINER = "/opt/ml/models"

_LOOK_SECONDS = 1.0
_LINES, _LAST_WORDS_BYTES = 40, 2000
_OVER = ("exited", "dead", "stopped", "removing")


class DockerContainer:
    """A container that was started. Its ``last_words`` are those of a second ago."""

    def __init__(self, spec: InstanceSpec, engine: Engine, found: Any, url: str) -> None:
        self.url = url
        self.record: Record = {"container": found.id}
        self.models = spec.models
        self._spec = spec
        self._engine = engine
        self._found = found
        self._memory: MemoryUse | None = None
        self._pid = 0  # of its first process, on this machine
        self._last_words = ""
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._look_on())

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
        await self._look()
        await self._engine.find(lambda _: self._found.remove(force=True, v=True))
        self._end("was stopped")

    def memory(self) -> MemoryUse | None:
        """What it takes now; where that cannot be seen, what the engine told last."""
        told = self._memory
        used = control_group.used_bytes(self._pid, self._found.id) if told else None
        return told if told is None or used is None else MemoryUse(used, told.limit)

    def last_words(self) -> str:
        """The end of its output when the engine was last asked."""
        return self._last_words

    def close(self) -> None:
        """Look at it no more; it goes on."""
        self._watch.cancel()

    async def _look_on(self) -> None:
        failing = False
        while self.running:
            try:
                await self._look()
                failing = False
            except FleetError as error:
                if not failing:
                    log.warning("instance %s cannot be looked at: %s", self._spec.id, error)
                failing = True
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        state = await self._engine.find(lambda _: self._seen())
        if state is None:
            self._end("was removed")
        elif state.get("Status") in _OVER:
            self._end(_how(state))
        else:
            with suppress(FleetError):  # it may have ended just now: the next look tells
                self._memory = await self._engine.call(lambda _: self._weighed())

    def _seen(self) -> Mapping[str, Any]:
        """In a thread: its state, and with it the end of what it printed."""
        self._found.reload()
        text = self._found.logs(tail=_LINES)[-_LAST_WORDS_BYTES:]
        self._last_words = text.decode("utf-8", "replace").strip()
        state: Mapping[str, Any] = self._found.attrs["State"]
        self._pid = int(state.get("Pid") or 0)
        return state

    def _weighed(self) -> MemoryUse | None:
        return _memory_use(self._found.stats(stream=False, one_shot=True))

    def _end(self, words: str) -> None:
        self._watch.cancel()
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
