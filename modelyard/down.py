"""``modelyard down``: stops an endpoint, its instances and its S3, or what a killed one left."""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from container.environment import current_environment, settings_from
from endpoint.fleets.fleet import FleetError
from endpoint.running import stop_what_is_left
from endpoint.settings import EndpointSettings
from endpoint.state import StateError
from modelyard.data_dir import DataDir, DataDirError
from modelyard.own_s3 import OwnS3
from modelyard.say import say

# Beyond what requests may take to finish, and then instances to stop.
_GRACE_SECONDS = 30.0

_FAILURES = (DataDirError, FleetError, OSError, StateError)


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard down``; returns the exit code."""
    asked = _options(arguments)
    given = {} if asked.data_dir is None else {"data_dir": asked.data_dir}
    environment = current_environment()
    try:
        settings = settings_from(EndpointSettings, environment, given)
        data = DataDir(settings.data_dir)
        if not data.is_ours:
            say(f"no endpoint has run on {data.path}")
            return 0
        _stop(data, settings, environment)
        if asked.forget:
            kept = data.remove()
            say(f"{data.path} is removed{', but for what is not ours in it' if kept else ''}")
    except _FAILURES as error:
        say(f"modelyard down: {error}")
        return 1
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard down",
        description="Stop the endpoint of a data directory, its instances and its S3 with all that "
        "was uploaded to it. Endpoints, models' files and logs stay for the next `modelyard up`.",
        allow_abbrev=False,
    )
    parser.add_argument("--data-dir", metavar="DIR", help="that of `modelyard up`")
    parser.add_argument("--forget", action="store_true", help="remove all that it keeps, too")
    return parser.parse_args(arguments)


def _stop(data: DataDir, settings: EndpointSettings, environment: Mapping[str, str]) -> None:
    """End what runs, then what was left by one that was killed, be it now or long ago."""
    last = data.last()
    if last is not None:  # it may have been started with other settings than ours
        options = {**last.settings, "data_dir": str(data.path)}
        settings = settings_from(EndpointSettings, environment, options)
    if pid := data.holder():
        with suppress(ProcessLookupError):
            _end(pid, 2 * settings.stop_timeout_seconds + _GRACE_SECONDS)
        say("the endpoint has stopped")
    with data.locked():
        asyncio.run(_stop_what_is_left(data, settings, environment))


def _end(pid: int, patience_seconds: float) -> None:
    """End a process, in order if it does that in time."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], patience_seconds)[0]:
            say(f"process {pid} does not stop and is killed")
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


async def _stop_what_is_left(
    data: DataDir, settings: EndpointSettings, environment: Mapping[str, str]
) -> None:
    if count := await stop_what_is_left(settings, environment):
        say(f"{count} instance{'s' if count > 1 else ''} of a killed endpoint stopped")
    if await OwnS3(data.path, settings.port).stop_what_is_left():
        say("the S3 of a killed endpoint stopped")
