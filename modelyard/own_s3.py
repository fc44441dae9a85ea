"""The S3 that ``modelyard up`` brings along: at the same address in each of its lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from endpoint.fleets.ports import HOST, can_listen
from endpoint.local_s3 import LocalS3

Record = dict[str, str | int]


class OwnS3:
    """What is known of it in a data directory."""

    def __init__(self, data_dir: Path, api_port: int) -> None:
        self._directory = data_dir / "s3"
        self._file = self._directory / "record.json"
        self._next_to_api = api_port + 1 if api_port else 0

    def is_at(self, url: str) -> bool:
        """Whether a URL is where it was or would be; nobody else listens there."""
        parts = urlsplit(url)
        if parts.hostname != HOST or parts.port not in (self._last_port(), self._next_to_api):
            return False
        return self._last_port() == parts.port or can_listen(parts.port)

    @asynccontextmanager
    async def running(self, environment: Mapping[str, str]) -> AsyncIterator[str]:
        """Its URL, while it runs: that of an earlier life with what it holds, or a new one.

        Raises LocalS3Error.
        """
        adopted = await self._adopted()
        own = adopted or await self._started(environment)
        try:
            yield own.url
        except BaseException:
            if adopted is not None:  # what it holds is not lost because we could not start
                own.close()
            else:
                await own.stop()
            raise
        await own.stop()

    async def _started(self, environment: Mapping[str, str]) -> LocalS3:
        started = await LocalS3.start(self._directory, environment, self._port())
        self._file.write_bytes(msgspec.json.encode(started.record))
        return started

    async def stop_what_is_left(self) -> bool:
        """End the one of an endpoint that was killed; whether there was one."""
        found = await self._adopted()
        if found is not None:
            await found.stop()
        return found is not None

    async def _adopted(self) -> LocalS3 | None:
        record = self._record()
        return None if record is None else await LocalS3.adopt(self._directory, record)

    def _port(self) -> int:
        """Where clients look for it, unless somebody else is there by now; 0 for any."""
        wanted = self._last_port() or self._next_to_api
        return wanted if wanted and can_listen(wanted) else 0

    def _last_port(self) -> int:
        record = self._record()
        return 0 if record is None else int(record["port"])

    def _record(self) -> Record | None:
        with suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(self._file.read_bytes(), type=Record)
        return None
