"""The process that ``modelyard up`` starts: the endpoint, and the S3 that it brings along.

Run with the settings as options. Ends in order on SIGTERM, and with ``--attached`` when its
standard input does, which is when the command is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import uvloop

from container.environment import add_options, current_environment, settings_from
from endpoint.fleets.fleet import FleetError
from endpoint.local_s3 import LocalS3Error
from endpoint.running import CannotListen, run
from endpoint.settings import EndpointSettings, SettingsError
from endpoint.state import StateError
from model_server import logs
from modelyard.data_dir import DataDir, DataDirError, Running
from modelyard.endpoint_process import FAILED, OWN_S3
from modelyard.own_s3 import OwnS3

_FAILURES = (
    *(CannotListen, DataDirError, FleetError, LocalS3Error),
    *(OSError, SettingsError, StateError),
)


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; returns the exit code."""
    options = _options(arguments)
    s3, attached = options.pop("s3"), options.pop("attached")
    environment = current_environment()
    settings = settings_from(EndpointSettings, environment, options)
    _allow_many_descriptors()
    writer = logs.configure_in_background("INFO", "plain")
    if attached:
        threading.Thread(target=_end_with_our_parent, daemon=True).start()
    data = DataDir(settings.data_dir)
    try:
        with data.locked(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, environment, data, s3, options))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except _FAILURES as error:
        logs.logger.error("%s%s", FAILED, error)
        return 2
    finally:
        writer.stop()
    return 0


def _options(arguments: Sequence[str]) -> dict[str, str]:
    parser = argparse.ArgumentParser(prog="modelyard.up_process")
    parser.add_argument("--s3", required=True, help=f"URL of an S3, `{OWN_S3}`, or empty for AWS's")
    parser.add_argument("--attached", action="store_true")
    add_options(parser, EndpointSettings)
    return vars(parser.parse_args(arguments))


async def _serve(
    settings: EndpointSettings,
    environment: Mapping[str, str],
    data: DataDir,
    s3: str,
    options: dict[str, str],
) -> None:
    async with AsyncExitStack() as stack:
        own_s3 = s3 == OWN_S3
        if own_s3:
            _cancel_when_told_to_stop()  # until the endpoint itself listens to signals
            own = OwnS3(data.path, settings.port)
            s3 = await stack.enter_async_context(own.running(environment))
            # It reads all of an object for each part that is asked for.
            settings = replace(settings, download_connections=1)

        def ready(url: str) -> None:
            logs.logger.info("ready at %s", url)
            data.announce(Running(os.getpid(), url, s3, own_s3, settings.region, options))

        # Containers read scripts of the bucket themselves.
        inherited = {**environment, "AWS_ENDPOINT_URL_S3": s3} if s3 else environment
        await run(settings, inherited, ready, s3_url=s3 or None)


def _cancel_when_told_to_stop() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _end_with_our_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # no buffer, whose lock the exit would wait for
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _allow_many_descriptors() -> None:
    """Each request holds one or two; many systems allow 1,024 unless asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
