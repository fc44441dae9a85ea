"""The controller's view of its zygotes: starts them, asks them to fork, hears of deaths.

One zygote for each framework, and one more for each environment of packages that models have
brought. A warm zygote that dies is started again at once, one that never became warm when it is
needed next. Its workers live on and become the controller's own children.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping, Set

import msgspec

from handlers.directory.programs import library_environment
from handlers.frameworks import FRAMEWORKS
from model_server import wire
from model_server.environments.environments import Environment
from model_server.errors import EnvironmentFailed, ServerError, ServerUnavailable
from model_server.processes.children import Children, describe_exit, kill
from model_server.processes.fork_channel import ForkChannel
from model_server.settings import Settings

log = logging.getLogger("modelyard.zygotes")

_START_TIMEOUT_SECONDS = 120.0

# A zygote of an environment goes when no model of it has been loaded for this long.
_UNUSED_SECONDS = 300.0

# Threads of numeric libraries: one. A model that asks for more (``threads``) gets them after the
# fork: a pool started before would hang it.
THREAD_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

# OpenMP reads it before it is loaded, and spinning teams of many processes cost 3-4x the
# throughput; whoever runs one large model may want it otherwise.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}

# CUDA's own order is by speed; GPUs are counted here as NVML and people count them.
_GPU_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


# A framework, and the key of an environment ("": the server's own).
ZygoteKey = tuple[str, str]


class Zygote:
    """One zygote process and the channel to it."""

    def __init__(
        self,
        framework: str,
        environment: Environment | None,
        *,
        on_worker_exit: Callable[[int, int], None],
        on_gone: Callable[[Zygote], None],
    ) -> None:
        self.framework = framework
        self.environment = environment
        self.key: ZygoteKey = (framework, environment.key if environment else "")
        self.pid = 0
        self.private_bytes = 0
        self.was_warm = False
        self.used_at = time.monotonic()
        self._on_gone = on_gone
        self._how = "hung up"
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        channel, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._forks = ForkChannel(
            channel,
            on_worker_exit=on_worker_exit,
            on_gone=self._gone,
            on_message=self._hear,
        )

    @property
    def alive(self) -> bool:
        """Whether it can still be asked for anything."""
        return self._forks.alive

    @property
    def name(self) -> str:
        """What logs and metrics call it."""
        framework, environment = self.key
        return f"{framework}@{environment[:8]}" if environment else framework

    def start(
        self,
        children: Children,
        settings: Settings,
        *,
        lifeline_fd: int,
        stats_path: str,
        environment: Mapping[str, str],
    ) -> None:
        """Start the process; ``fork`` waits until it has warmed up."""
        spec = wire.ZygoteSpec(
            framework=self.framework,
            control_fd=self._far_end.fileno(),
            lifeline_fd=lifeline_fd,
            stats_path=stats_path,
            log_level=settings.log_level,
            log_format=settings.log_format,
        )
        python = self.environment.python if self.environment else sys.executable
        self.pid = children.start(
            [
                python,
                "-P",
                "-m",
                "model_server.processes.zygote",
                msgspec.json.encode(spec).decode(),
            ],
            on_exit=self._exited,
            pass_fds=(self._far_end.fileno(), lifeline_fd),
            environment=environment,
        )
        self._far_end.close()

    async def wait_ready(self) -> None:
        """Return when it can fork. Raises a ServerError with the reason when it cannot."""
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), _START_TIMEOUT_SECONDS)
        except TimeoutError:
            kill(self.pid)
            raise ServerUnavailable(
                f"importing {self.framework} took more than {_START_TIMEOUT_SECONDS:.0f} seconds"
            ) from None

    async def fork(
        self,
        spec: wire.WorkerSpec,
        listener: socket.socket,
        leash: socket.socket,
        register: Callable[[int], None],
    ) -> None:
        """Fork a worker, see ``ForkChannel.fork``."""
        await self.wait_ready()
        await self._forks.fork(spec, listener, leash, register)

    def close(self) -> None:
        """Let it go: it leaves when it sees the channel closed."""
        self._forks.close()

    def _hear(self, message: msgspec.Struct) -> None:
        match message:
            case wire.ZygoteReady(seconds, private_bytes):
                self.private_bytes = private_bytes
                mib = private_bytes >> 20
                log.info("%s is warm: %.2f s, %d MiB", self.name, seconds, mib)
                self._settle(None)
            case wire.ZygoteFailed(text):
                self._settle(self._not_importable(text))

    def _not_importable(self, text: str) -> ServerError:
        if not self.key[1]:  # the server's own
            return ServerUnavailable(f"{self.framework} cannot be imported: {text}")
        return EnvironmentFailed(
            "The model's requirements do not go together with the server's packages: with them, "
            f"{self.framework} cannot be imported: {text}. Change the versions they ask for, or "
            f"name one of {self.framework} that goes with them."
        )

    def _settle(self, error: Exception | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)
            self._ready.exception()  # seen: nobody may be waiting

    def _exited(self, code: int) -> None:
        self._how = describe_exit(code)
        self._forks.exited()

    def _gone(self) -> None:
        self.was_warm = self._ready.done() and self._ready.exception() is None
        self._settle(ServerUnavailable(f"the {self.name} zygote {self._how}"))
        log.warning("zygote %s (pid %d) %s", self.name, self.pid, self._how)
        self._on_gone(self)


class ZygotePool:
    """All zygotes, by framework and environment."""

    def __init__(
        self,
        settings: Settings,
        children: Children,
        *,
        lifeline_fd: int,
        stats_path: str,
        environment: Mapping[str, str],
        on_worker_exit: Callable[[int, int], None],
    ) -> None:
        self._settings = settings
        self._children = children
        self._lifeline_fd = lifeline_fd
        self._stats_path = stats_path
        # What workers would set for libraries that read it: here it costs them nothing.
        told = library_environment(settings.handler_options)
        self._environment = {**told, **_WAITING, **_GPU_ORDER, **environment, **THREAD_ENVIRONMENT}
        self._on_worker_exit = on_worker_exit
        self._zygotes: dict[ZygoteKey, Zygote] = {}
        self._closing = False

    def get(self, framework: str, environment: Environment | None = None) -> Zygote:
        """The zygote of a framework in an environment, started if there is none alive."""
        key = (framework, environment.key if environment else "")
        zygote = self._zygotes.get(key)
        if zygote is None or not zygote.alive:
            zygote = Zygote(
                framework,
                environment,
                on_worker_exit=self._on_worker_exit,
                on_gone=self._replace,
            )
            zygote.start(
                self._children,
                self._settings,
                lifeline_fd=self._lifeline_fd,
                stats_path=self._stats_path,
                environment=self._environment,
            )
            self._zygotes[key] = zygote
        return zygote

    def _replace(self, gone: Zygote) -> None:
        """Start a zygote that worked again, so that the next load finds it warm."""
        if gone.was_warm and not self._closing:
            self.get(gone.framework, gone.environment)

    def close_unused(self, in_use: Set[ZygoteKey]) -> None:
        """Let zygotes of environments go that no model has used for a while."""
        now = time.monotonic()
        for key, zygote in list(self._zygotes.items()):
            if not key[1] or key in in_use:
                zygote.used_at = now
            elif now - zygote.used_at > _UNUSED_SECONDS:
                zygote.close()
                del self._zygotes[key]
                log.info("zygote %s is not used any more", zygote.name)

    async def preload(self, frameworks: tuple[str, ...], budget_bytes: int | None) -> None:
        """Warm up one after another, as far as the budget allows (None: all of them)."""
        for name in frameworks:
            expected = FRAMEWORKS[name].resident_bytes
            if budget_bytes is not None and self.private_bytes + expected > budget_bytes:
                log.info("not preloading %s: over a tenth of the memory limit", name)
                continue
            started = time.monotonic()
            try:
                await self.get(name).wait_ready()
            except ServerUnavailable as error:
                log.warning("cannot preload %s: %s", name, error.message)
            log.debug("preload of %s took %.2f s", name, time.monotonic() - started)

    @property
    def private_bytes(self) -> int:
        """What the living zygotes hold, or will when they are warm: a charge of the server."""
        return sum(
            zygote.private_bytes or FRAMEWORKS[zygote.framework].resident_bytes
            for zygote in self._zygotes.values()
            if zygote.alive
        )

    @property
    def warm_bytes(self) -> dict[str, int]:
        """Name -> private memory of a living zygote."""
        return {
            zygote.name: zygote.private_bytes for zygote in self._zygotes.values() if zygote.alive
        }

    @property
    def environments(self) -> set[str]:
        """The keys of the environments that zygotes run in."""
        return {environment for _, environment in self._zygotes if environment}

    def bytes_to_start(self, framework: str, environment_key: str) -> int:
        """What a zygote is going to take: nothing when it is there, be it only just started."""
        zygote = self._zygotes.get((framework, environment_key))
        if zygote is not None and zygote.alive:
            return 0
        return FRAMEWORKS[framework].resident_bytes

    def close(self) -> None:
        """Let all of them go."""
        self._closing = True
        for zygote in self._zygotes.values():
            zygote.close()
