"""The HTTP processes: gunicorn, started and kept alive by the controller.

Gunicorn's master keeps the gateways alive; this keeps the master alive. The listening socket
belongs to the controller, so while nobody accepts, connections wait and are not refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence

from model_server.backoff import restart_delay
from model_server.processes.children import Children, describe_exit, kill

log = logging.getLogger("modelyard.gateways")

# Bodies come and go: without this, glibc gives each back to the kernel and gets it anew, cleared
# page by page, which costs as much as sending it.
_MALLOC_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

# A master that lived this long was healthy; its death says nothing about the next one.
_HEALTHY_SECONDS = 5.0


class Gateways:
    """One gunicorn master and, below it, the gateways."""

    def __init__(
        self,
        children: Children,
        command: Sequence[str],
        listener: socket.socket,
        *,
        lifeline_fd: int,
        environment: Mapping[str, str],
    ) -> None:
        self._children = children
        self._command = command
        self._pass_fds = (listener.fileno(), lifeline_fd)
        self._environment = {**_MALLOC_ENVIRONMENT, **environment}
        self._stopping = False
        self._gone = asyncio.Event()
        self._failures = 0
        self._started = 0.0
        self.pid = 0

    def start(self) -> None:
        """Start the master."""
        self._started = time.monotonic()
        self.pid = self._children.start(
            self._command,
            on_exit=self._exited,
            pass_fds=self._pass_fds,
            environment=self._environment,
        )

    async def stop(self, limit_seconds: float) -> None:
        """Let the gateways finish their requests, then end them."""
        self._stopping = True
        if not self.pid:
            return
        kill(self.pid, 15)
        try:
            async with asyncio.timeout(limit_seconds):
                await self._gone.wait()
        except TimeoutError:
            log.warning("gateways did not stop in %g s; killing them", limit_seconds)
            kill(self.pid)
            await self._gone.wait()

    def _exited(self, code: int) -> None:
        self.pid = 0
        if self._stopping:
            self._gone.set()
            return
        lived = time.monotonic() - self._started
        self._failures = 1 if lived > _HEALTHY_SECONDS else self._failures + 1
        delay = restart_delay(self._failures)
        log.error("gunicorn %s; starting it again in %g s", describe_exit(code), delay)
        asyncio.get_running_loop().call_later(delay, self._start_again)

    def _start_again(self) -> None:
        if not self._stopping:
            self.start()
