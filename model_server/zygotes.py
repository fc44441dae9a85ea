"""The controller's view of its zygotes: starts them, asks them to fork, hears of deaths.

One zygote for each framework. A warm zygote that dies is started again at once, one that never
became warm when it is needed next. Its workers live on and become the controller's own children.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping

import msgspec

from handlers.frameworks import FRAMEWORKS
from model_server import wire
from model_server.children import Children, describe_exit, kill
from model_server.errors import ServerUnavailable
from model_server.settings import Settings

log = logging.getLogger("modelyard.zygotes")

# Descriptors under way in a socket are limited by the kernel; forks are quick, so few are enough.
_FORKS_UNDER_WAY = 8
_START_TIMEOUT_SECONDS = 120.0
_MAX_MESSAGE_BYTES = 65536

# Threads of numeric libraries: one in each process unless a model asks for more. OpenMP reads its
# waiting policy before it is loaded, and spinning teams of many processes cost 3-4x the throughput.
THREAD_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class ZygoteDied(Exception):
    """Raised when a zygote ends before it has answered."""


class Zygote:
    """One zygote process and the channel to it."""

    def __init__(
        self,
        framework: str,
        *,
        on_worker_exit: Callable[[int, int], None],
        on_gone: Callable[[Zygote], None],
    ) -> None:
        self.framework = framework
        self.pid = 0
        self.private_bytes = 0
        self.alive = True
        self.was_warm = False
        self._on_worker_exit = on_worker_exit
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._forks: dict[int, tuple[asyncio.Future[None], Callable[[int], None]]] = {}
        self._places = asyncio.Semaphore(_FORKS_UNDER_WAY)
        self._channel, self._far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)

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
        command = [sys.executable, "-P", "-m", "model_server.zygote"]
        self.pid = children.start(
            [*command, msgspec.json.encode(spec).decode()],
            on_exit=self._exited,
            pass_fds=(self._far_end.fileno(), lifeline_fd),
            environment=environment,
        )
        self._far_end.close()
        self._loop.add_reader(self._channel, self._receive)

    async def wait_ready(self) -> None:
        """Return when it can fork. Raises ServerUnavailable with the reason when it cannot."""
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
        """Fork a worker. ``register`` gets its pid before any later news of it can come.

        Raises ZygoteDied when the zygote is gone.
        """
        await self.wait_ready()
        async with self._places:
            if not self.alive:
                raise ZygoteDied(self.framework)
            answer: asyncio.Future[None] = self._loop.create_future()
            self._forks[spec.worker_id] = answer, register
            fds = [listener.fileno(), leash.fileno()]
            try:
                socket.send_fds(self._channel, [wire.encode(spec)], fds)
                await answer
            except (BrokenPipeError, ConnectionResetError):
                self._receive()
                raise ZygoteDied(self.framework) from None
            finally:
                self._forks.pop(spec.worker_id, None)

    def close(self) -> None:
        """Let it go: it leaves when it sees the channel closed."""
        self.alive = False
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()

    def _receive(self) -> None:
        while True:
            try:
                data = self._channel.recv(_MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left requests unread; what it has said is still to be read
            if not data:
                self._gone("hung up")
                return
            self._dispatch(wire.decode_zygote_message(data))

    def _dispatch(self, message: wire.ZygoteMessage) -> None:
        match message:
            case wire.ZygoteReady(seconds, private_bytes):
                self.private_bytes = private_bytes
                mib = private_bytes >> 20
                log.info("%s is warm: %.2f s, %d MiB", self.framework, seconds, mib)
                self._settle(None)
            case wire.ZygoteFailed(text):
                self._settle(ServerUnavailable(f"{self.framework} cannot be imported: {text}"))
            case wire.Forked(worker_id, pid):
                answer, register = self._forks.get(worker_id, (None, None))
                if answer is None or register is None or answer.done():
                    kill(pid)  # nobody waits for it any more
                else:
                    register(pid)
                    answer.set_result(None)
            case wire.ForkFailed(worker_id, text):
                answer, _ = self._forks.get(worker_id, (None, None))
                if answer is not None and not answer.done():
                    answer.set_exception(ServerUnavailable(f"cannot start a process: {text}"))
            case wire.Exited(pid, code):
                self._on_worker_exit(pid, code)

    def _settle(self, error: Exception | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)
            self._ready.exception()  # seen: nobody may be waiting

    def _exited(self, code: int) -> None:
        self._receive_rest()
        self._gone(describe_exit(code))

    def _receive_rest(self) -> None:
        """Deaths that it still reported are in the socket."""
        if self.alive and self._channel.fileno() >= 0:
            self._receive()

    def _gone(self, how: str) -> None:
        if not self.alive:
            return
        self.close()
        self.was_warm = self._ready.done() and self._ready.exception() is None
        self._settle(ServerUnavailable(f"the {self.framework} zygote {how}"))
        for answer, _ in self._forks.values():
            if not answer.done():
                answer.set_exception(ZygoteDied(self.framework))
        log.warning("zygote %s (pid %d) %s", self.framework, self.pid, how)
        self._on_gone(self)


class ZygotePool:
    """All zygotes, by framework."""

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
        self._environment = {**THREAD_ENVIRONMENT, **environment}
        self._on_worker_exit = on_worker_exit
        self._zygotes: dict[str, Zygote] = {}
        self._closing = False

    def get(self, framework: str) -> Zygote:
        """The framework's zygote, started if there is none alive."""
        zygote = self._zygotes.get(framework)
        if zygote is None or not zygote.alive:
            zygote = Zygote(framework, on_worker_exit=self._on_worker_exit, on_gone=self._replace)
            zygote.start(
                self._children,
                self._settings,
                lifeline_fd=self._lifeline_fd,
                stats_path=self._stats_path,
                environment=self._environment,
            )
            self._zygotes[framework] = zygote
        return zygote

    async def fork(
        self,
        spec: wire.WorkerSpec,
        listener: socket.socket,
        leash: socket.socket,
        register: Callable[[int], None],
    ) -> None:
        """Fork a worker from the right zygote, see ``Zygote.fork``."""
        zygote = self.get(spec.plan.framework)
        await zygote.fork(spec, listener, leash, register)

    def _replace(self, gone: Zygote) -> None:
        """Start a zygote that worked again, so that the next load finds it warm."""
        if gone.was_warm and not self._closing:
            self.get(gone.framework)

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
        """What the living zygotes hold: a fixed charge of the server."""
        return sum(self.warm_bytes.values())

    @property
    def warm_bytes(self) -> dict[str, int]:
        """Framework -> private memory of its living zygote."""
        return {
            name: zygote.private_bytes for name, zygote in self._zygotes.items() if zygote.alive
        }

    def bytes_to_start(self, framework: str) -> int:
        """What the framework's zygote is going to take: nothing when it is there."""
        zygote = self._zygotes.get(framework)
        if zygote is not None and zygote.alive and zygote.private_bytes:
            return 0
        return FRAMEWORKS[framework].resident_bytes

    def close(self) -> None:
        """Let all of them go."""
        self._closing = True
        for zygote in self._zygotes.values():
            zygote.close()
