"""The endpoint as one process: everything made in order, and taken down in the other one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

from endpoint.api.server import ApiServer
from endpoint.fleets import choice
from endpoint.live.strays import Strays
from endpoint.objects.stores import Stores
from endpoint.platform import Platform
from endpoint.settings import EndpointSettings
from endpoint.state import State

STATE_FILE = "state.sqlite"

# What ends it in order. At the second one it ends anyhow.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CannotListen(Exception):
    """Raised for an address that cannot be had; the text says which, and what to do."""


async def run(
    settings: EndpointSettings,
    environment: Mapping[str, str],
    ready: Callable[[str], None],
    *,
    s3_url: str | None = None,
) -> None:
    """Serve until a signal says to stop; then stop the instances too.

    ``ready`` is called with the URL of all APIs when requests can come. ``environment`` is what
    instances inherit; ``s3_url`` is an S3 that is not AWS's. Raises CannotListen, SettingsError,
    StateError, FleetError.
    """
    with _signalled() as stop:
        async with serving(settings, environment, s3_url) as url:
            ready(url)
            await stop.wait()


@asynccontextmanager
async def serving(
    settings: EndpointSettings, environment: Mapping[str, str], s3_url: str | None = None
) -> AsyncIterator[str]:
    """The endpoint's URL while it serves; for the loop of somebody else."""
    _check_address(settings)
    async with AsyncExitStack() as stack:
        state = stack.enter_context(closing(State(Path(settings.data_dir) / STATE_FILE)))
        fleet = choice.make(settings, environment)
        stack.push_async_callback(fleet.close)
        stores = Stores(settings, s3_url)
        stack.push_async_callback(stores.close)
        platform = Platform(settings, state, fleet, stores)
        server = ApiServer(settings, state, platform)
        stack.push_async_callback(partial(platform.close, stop_instances=True))
        await platform.start()
        port = await server.start()
        stack.push_async_callback(server.stop, settings.stop_timeout_seconds)
        yield f"http://{_reachable(settings.host)}:{port}"


async def stop_what_is_left(settings: EndpointSettings, environment: Mapping[str, str]) -> int:
    """Stop the instances of an endpoint that was killed; their files stay. Returns how many ran.

    Raises SettingsError, StateError, FleetError.
    """
    path = Path(settings.data_dir)
    with closing(State(path / STATE_FILE)) as state:
        fleet = choice.make(settings, environment)
        try:
            left = Strays(fleet, state.instances, path / "instances", settings.stop_timeout_seconds)
            return await left.stop_all()
        finally:
            await fleet.close()


@contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that a signal sets."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        ignore()

    def ignore() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        ignore()


def _check_address(settings: EndpointSettings) -> None:
    """Before instances are started for nothing."""
    try:
        socket.create_server((settings.host, settings.port)).close()
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}); "
            "give another --port or --host, or stop what listens there"
        ) from error


def _reachable(host: str) -> str:
    """An address by which this machine reaches itself, as a URL has it."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
