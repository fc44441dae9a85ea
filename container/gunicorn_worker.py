"""Gunicorn's view of a gateway: a worker class that runs our protocol on uvloop.

Gunicorn brings the process management (start, replace, time out, stop); the bytes are handled by
``model_server.gateway.http_protocol``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from gunicorn.workers.base import Worker

from model_server import logs
from model_server.gateway.gateway import Gateway
from model_server.gateway.http_protocol import Connections, HttpProtocol
from model_server.processes import lifeline
from model_server.run_dir import RunDir
from model_server.settings import TCP_BACKLOG, Settings

_TICK_SECONDS = 1.0
_POLL_SECONDS = 0.02
_LAST_REPORT_SECONDS = 1.0


def application(run_dir: str, lifeline_fd: int) -> Any:
    """What gunicorn loads in each gateway process: where its server lives."""

    def place() -> tuple[str, int]:
        return run_dir, lifeline_fd

    return place


class GatewayWorker(Worker):  # type: ignore[misc]  # gunicorn is untyped
    """One gateway process."""

    def init_signals(self) -> None:
        """Forget the master's handlers, which would swallow a SIGTERM that comes while we start."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until told to stop."""
        path, lifeline_fd = self.wsgi()
        lifeline.arm(lifeline_fd)
        run_dir = RunDir(path)
        settings = msgspec.json.decode(Path(run_dir.settings_file).read_bytes(), type=Settings)
        log_writer = logs.configure_in_background(settings.log_level, settings.log_format)
        try:
            uvloop.run(self._serve(settings, run_dir))
        finally:
            log_writer.stop()

    async def _serve(self, settings: Settings, run_dir: RunDir) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGQUIT, os._exit, 0)  # gunicorn's word for "at once"
        gateway = Gateway(settings, run_dir)
        connections = Connections(
            gateway, gateway.refuse, settings.max_body_bytes, gateway.counts.done
        )
        connections.tick()
        servers = [
            await loop.create_server(
                lambda: HttpProtocol(connections), sock=listener.sock, backlog=TCP_BACKLOG
            )
            for listener in self.sockets
        ]
        reporting = asyncio.create_task(gateway.report(0))  # the first says that the port is open
        while not stop.is_set() and self.ppid == os.getppid():
            self.notify()
            try:
                await asyncio.wait_for(stop.wait(), _TICK_SECONDS)
            except TimeoutError:
                connections.tick()
                gateway.counts.write_log()
                if reporting.done():  # a controller that does not answer must not stop the clock
                    reporting = asyncio.create_task(gateway.report(connections.in_flight))
        for server in servers:
            server.close()
        await self._drain(connections, settings.drain_timeout_seconds)
        gateway.counts.write_log()
        with suppress(TimeoutError):
            await asyncio.wait_for(gateway.report(0), _LAST_REPORT_SECONDS)

    async def _drain(self, connections: Connections, limit_seconds: float) -> None:
        deadline = connections.loop.time() + limit_seconds
        while connections.open and connections.loop.time() < deadline:
            self.notify()
            connections.stop()
            await asyncio.sleep(_POLL_SECONDS)
