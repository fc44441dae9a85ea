"""The controller's end of a fork loop: asks a zygote, or a loaded model, to fork workers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import msgspec

from model_server import wire
from model_server.errors import ServerUnavailable
from model_server.processes.children import kill

# Descriptors under way in a socket are limited by the kernel; forks are quick, so few are enough.
_FORKS_UNDER_WAY = 8
_MAX_MESSAGE_BYTES = 65536


class ForkParentDied(Exception):
    """Raised when the process that was to fork ends before it has answered."""


class ForkChannel:
    """A channel to a fork loop.

    ``on_worker_exit(pid, code)`` hears of deaths, ``on_gone`` once of the loop's own end, and
    ``on_message`` of everything that is not about forks.
    """

    def __init__(
        self,
        channel: socket.socket,
        *,
        on_worker_exit: Callable[[int, int], None],
        on_gone: Callable[[], None],
        on_message: Callable[[msgspec.Struct], None] = lambda _: None,
    ) -> None:
        self.alive = True
        self._channel = channel
        self._on_worker_exit = on_worker_exit
        self._on_gone = on_gone
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._forks: dict[int, tuple[asyncio.Future[None], Callable[[int], None]]] = {}
        self._places = asyncio.Semaphore(_FORKS_UNDER_WAY)
        channel.setblocking(False)
        self._loop.add_reader(channel, self._receive)

    async def fork(
        self,
        spec: wire.WorkerSpec,
        listener: socket.socket,
        leash: socket.socket,
        register: Callable[[int], None],
    ) -> None:
        """Fork a worker. ``register`` gets its pid before any later news of it can come.

        Raises ForkParentDied when the loop's process is gone.
        """
        async with self._places:
            if not self.alive:
                raise ForkParentDied
            answer: asyncio.Future[None] = self._loop.create_future()
            self._forks[spec.worker_id] = answer, register
            fds = [listener.fileno(), leash.fileno()]
            try:
                socket.send_fds(self._channel, [wire.encode(spec)], fds)
                await answer
            except (BrokenPipeError, ConnectionResetError):
                self._receive()
                raise ForkParentDied from None
            finally:
                self._forks.pop(spec.worker_id, None)

    @property
    def under_way(self) -> int:
        """Forks that have been asked for and not been answered."""
        return len(self._forks)

    def close(self) -> None:
        """Let it go: it leaves when it sees the channel closed."""
        self.alive = False
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel)
            self._channel.close()

    def exited(self) -> None:
        """Its process has ended; the deaths that it still reported are in the socket."""
        if self.alive:
            self._receive()
        self.gone()

    def gone(self) -> None:
        """Its process has ended, or is about to."""
        if not self.alive:
            return
        self.close()
        for answer, _ in self._forks.values():
            if not answer.done():
                answer.set_exception(ForkParentDied())
        self._on_gone()

    def _receive(self) -> None:
        while self.alive:
            try:
                data = self._channel.recv(_MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left requests unread; what it has said is still to be read
            if not data:
                self.gone()
                return
            self._dispatch(wire.decode_zygote_message(data))

    def _dispatch(self, message: wire.ZygoteMessage) -> None:
        match message:
            case wire.Forked(worker_id, pid):
                self._forked(worker_id, pid)
            case wire.ForkFailed(worker_id, text):
                answer, _ = self._forks.get(worker_id, (None, None))
                if answer is not None and not answer.done():
                    answer.set_exception(ServerUnavailable(f"cannot start a process: {text}"))
            case wire.Exited(pid, code):
                self._on_worker_exit(pid, code)
            case _:
                self._on_message(message)

    def _forked(self, worker_id: int, pid: int) -> None:
        answer, register = self._forks.get(worker_id, (None, None))
        if answer is None or register is None or answer.done():
            kill(pid)  # nobody waits for it any more
        else:
            register(pid)
            answer.set_result(None)
