"""The environments that models with requirements run in: made when first asked for, then shared.

Runs on the controller's event loop; what touches the disk runs in threads, pip in a process.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass

from handlers.types import Requirements
from model_server.environments.environment_build import Builder
from model_server.environments.environment_key import EnvironmentKeys
from model_server.environments.environment_store import EnvironmentStore, Stamp
from model_server.errors import EnvironmentFailed, ModelTimeout, ServerUnavailable
from model_server.own_directory import UnsafeDirectory
from model_server.processes.children import Children
from model_server.settings import Settings

log = logging.getLogger("modelyard.environments")

_BUILDS_AT_ONCE = 2
_POLL_SECONDS = 0.05

# For how long an environment counts as used after it was handed out, whatever ``collect`` is told:
# whoever asked for it may not have noted it yet.
_JUST_HANDED_OUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a model's packages are. ``key`` is "" for the server's own environment."""

    key: str
    python: str


SERVER_ENVIRONMENT = Environment("", sys.executable)


class Environments:
    """All environments of one server."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        children: Children,
        *,
        lifeline_fd: int,
    ) -> None:
        self._limit_seconds = settings.environment_timeout_seconds
        self._max_bytes = settings.environments_max_bytes
        self._keys = EnvironmentKeys(environment)
        self._store = EnvironmentStore(settings.environments_dir)
        built = settings.built_environments_dir
        self._brought = EnvironmentStore(built) if built else None
        self._builder = Builder(
            self._store,
            children,
            environment,
            lifeline_fd=lifeline_fd,
            limit_seconds=settings.environment_timeout_seconds,
        )
        self._places = asyncio.Semaphore(_BUILDS_AT_ONCE)
        self._builds: dict[str, asyncio.Task[Stamp]] = {}
        self._held: dict[str, int] = {}  # key -> descriptor that keeps other servers from deleting
        self._handed_out: dict[str, float] = {}
        self._closing = False

    async def prepare(self, requirements: Requirements) -> Environment:
        """The environment with these packages, built if there is none.

        Whoever asks for the same meanwhile waits for the same build, and it goes on when all of
        them leave. The server's own environment when it has all that is asked for. Raises
        EnvironmentFailed (500) with pip's last words, or ModelTimeout; the next call tries again.
        """
        brought = await asyncio.to_thread(self._found_brought, requirements)
        if brought is not None:
            return brought
        while True:
            key, stamp, fd = await asyncio.to_thread(self._look_up, requirements)
            if not key:
                return SERVER_ENVIRONMENT
            if fd is not None:
                self._hold(key, fd)
            if self._closing:
                raise ServerUnavailable("the server is stopping")
            if stamp is None:
                stamp = await asyncio.shield(self._joined(key, requirements))
            if key in self._held:  # else it may have been deleted meanwhile
                break
        self._handed_out[key] = time.monotonic()
        return self._environment(self._store, key, stamp)

    def key(self, requirements: Requirements) -> str:
        """The key of the environment that ``prepare`` would give, as far as is known without it.

        Reads files, so it is for threads.
        """
        brought = self._found_brought(requirements)
        if brought is not None:
            return brought.key
        key = self._keys.key(requirements)
        stamp = self._store.find(key) if key else None
        return key if stamp is None or stamp.packages else ""

    async def collect(self, in_use: Set[str]) -> list[str]:
        """Delete environments as far as the size limit asks for it; return their keys.

        Never those with a key in ``in_use``, just handed out, being built, or used by another
        server. Also removes what crashed builds left.
        """
        recently = time.monotonic() - _JUST_HANDED_OUT_SECONDS
        self._handed_out = {k: at for k, at in self._handed_out.items() if at > recently}
        keep = {*in_use, *self._handed_out, *self._builds}
        for key in self._held.keys() - keep:
            os.close(self._held.pop(key))
        deleted = await asyncio.to_thread(self._store.collect, self._max_bytes, keep)
        for key in deleted:
            log.info("deleted environment %s, unused", key)
        return deleted

    async def close(self) -> None:
        """End what is being built; whoever waits for it hears that the server is stopping."""
        self._closing = True
        await asyncio.sleep(0)  # one that was not begun could not say why it ends
        for task in self._builds.values():
            task.cancel()
        await asyncio.gather(*self._builds.values(), return_exceptions=True)
        while self._held:
            os.close(self._held.popitem()[1])

    def _found_brought(self, requirements: Requirements) -> Environment | None:
        """What came with the image: nobody deletes it, so it needs no hold. For a thread."""
        if self._brought is None:
            return None
        key = self._keys.key(requirements)
        stamp = self._brought.find(key) if key else None
        return None if stamp is None else self._environment(self._brought, key, stamp)

    def _environment(self, store: EnvironmentStore, key: str, stamp: Stamp) -> Environment:
        """A complete one of that store; the server's own if it has no packages."""
        if not stamp.packages:
            return SERVER_ENVIRONMENT
        return Environment(key, str(store.path(key) / "bin" / "python"))

    def _look_up(self, requirements: Requirements) -> tuple[str, Stamp | None, int | None]:
        """The key, what is there complete, and a new hold on it. For a thread."""
        key = self._keys.key(requirements)
        if not key or not self._store.path(key).exists():
            return key, None, None
        fd = None
        if key not in self._held:
            with suppress(OSError):
                fd = self._store.lock(key, fcntl.LOCK_SH)
            if fd is None:  # being built or deleted
                return key, None, None
        stamp = self._store.find(key)
        if stamp is None and fd is not None:
            os.close(fd)
            return key, None, None
        self._store.touch(key)
        return key, stamp, fd

    def _hold(self, key: str, fd: int) -> None:
        if self._held.setdefault(key, fd) != fd:
            os.close(fd)  # two looked at the same time

    def _share(self, key: str, fd: int) -> None:
        """Turn a lock into a hold, unless another server is quicker to take it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        else:
            self._hold(key, fd)
            self._handed_out[key] = time.monotonic()

    def _joined(self, key: str, requirements: Requirements) -> asyncio.Task[Stamp]:
        """The build of that key that is under way, or a new one."""
        task = self._builds.get(key)
        if task is None:
            task = asyncio.create_task(self._build(key, requirements))
            self._builds[key] = task
            task.add_done_callback(lambda done: self._built(key, done))
        return task

    def _built(self, key: str, task: asyncio.Task[Stamp]) -> None:
        del self._builds[key]
        if not task.cancelled():
            task.exception()  # seen: all who waited may have left

    async def _build(self, key: str, requirements: Requirements) -> Stamp:
        try:
            fd, stamp = await self._claim(key)
            try:
                if stamp is None:
                    stamp = await self._build_claimed(key, requirements, fd)
            except BaseException:
                os.close(fd)
                raise
            self._share(key, fd)
            return stamp
        except asyncio.CancelledError:  # by ``close``: those who wait are not cancelled themselves
            raise ServerUnavailable("the server is stopping") from None

    async def _build_claimed(self, key: str, requirements: Requirements, fd: int) -> Stamp:
        """Build when it is its turn. Who only waits for another server's lock takes no turn."""
        async with self._places:
            log.info("building environment %s", key)
            return await self._builder.build(key, requirements, fd)

    async def _claim(self, key: str) -> tuple[int, Stamp | None]:
        """A descriptor with the lock: a shared one if it is there complete, else exclusive.

        Waits for another server that builds the same.
        """
        held = self._held.pop(key, None)  # on something that was removed by hand
        if held is not None:
            os.close(held)
        try:
            await asyncio.to_thread(self._store.make)
            async with asyncio.timeout(self._limit_seconds):
                while True:
                    claimed = self._store.claim(key)
                    if claimed is not None:
                        return claimed
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise ModelTimeout(
                f"another server has been building the model's environment in "
                f"{self._store.directory} for more than {self._limit_seconds:g} seconds"
            ) from None
        except (OSError, UnsafeDirectory) as error:
            raise EnvironmentFailed(
                f"cannot build an environment in {self._store.directory}: {error}. "
                "MODELYARD_ENVIRONMENTS_DIR names another place"
            ) from error
