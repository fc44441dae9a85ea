"""An S3 of our own, for those who have none: moto's server as a process that outlives us.

It keeps objects in its memory, and they are gone when it ends. It takes any credentials.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import aiohttp

from endpoint.fleets.ports import HOST, can_listen, free_blocks
from endpoint.processes.process import Process, Record, kill_marked

START_SECONDS = 60.0

_LOOK_SECONDS = 0.05


class LocalS3Error(Exception):
    """Raised when the S3 cannot be started; the text says what to do."""


class LocalS3:
    """One that answers. ``record`` goes through JSON and is for ``adopt``."""

    def __init__(self, process: Process, port: int) -> None:
        self.url = f"http://{HOST}:{port}"
        self.record: Record = {**process.record, "port": port}
        self._process = process

    @classmethod
    async def start(cls, directory: Path, environment: Mapping[str, str], port: int = 0) -> LocalS3:
        """Start it on this port, 0 for any, and wait until it answers.

        ``directory`` takes its log; what an earlier one there left behind is ended first. Raises
        LocalS3Error.
        """
        if find_spec("moto") is None or find_spec("flask_cors") is None:
            raise LocalS3Error(
                "an S3 of our own needs moto's server: pip install 'modelyard[up]'; or give the "
                "endpoint URL of an S3 that runs"
            )
        await asyncio.to_thread(kill_marked, _mark(directory))
        port = port or next(free_blocks()).port
        if not can_listen(port):
            raise LocalS3Error(f"port {port} of {HOST}, for an S3, is in use by another server")
        started = cls(_start(directory, environment, port), port)
        try:
            async with asyncio.timeout(START_SECONDS):
                await started._answers()
        except TimeoutError:
            await started.stop(0)
            raise LocalS3Error(f"the S3 did not answer within {START_SECONDS:.0f} s") from None
        except BaseException:
            await started.stop(0)  # nobody would know of it
            raise
        return started

    @classmethod
    async def adopt(cls, directory: Path, record: Record) -> LocalS3 | None:
        """The one of an earlier life, with what it holds; None if it does not run any more."""
        process = Process.adopt(record, output=directory / "log")
        return None if process is None else cls(process, int(record["port"]))

    async def ended(self) -> str:
        """Return when it has ended, with how."""
        return await self._process.ended()

    async def stop(self, timeout_seconds: float = 5.0) -> None:
        """End it, and with it all that it holds."""
        await self._process.stop(timeout_seconds)

    def close(self) -> None:
        """Look at it no more; it goes on."""
        self._process.close()

    async def _answers(self) -> None:
        """Return when it does. Raises LocalS3Error if it ends before."""
        async with aiohttp.ClientSession() as session:
            while self._process.running:
                try:
                    async with session.get(self.url):  # lists the buckets
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(_LOOK_SECONDS)
        raise LocalS3Error(
            f"the S3 {await self.ended()}; its last words: {self._process.last_words() or 'none'}"
        )


def _start(directory: Path, environment: Mapping[str, str], port: int) -> Process:
    directory.mkdir(parents=True, exist_ok=True)
    # It answers for other services too; what names none, as all requests to a bucket, is for S3.
    command = [sys.executable, "-P", "-m", "moto.server", "-H", HOST, "-p", str(port)]
    return Process.start(
        command,
        {**environment, "MOTO_PORT": str(port)},
        output=directory / "log",
        mark=_mark(directory),
    )


def _mark(directory: Path) -> str:
    return str(directory.absolute())
