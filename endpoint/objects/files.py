"""Archives in folders of this machine: ``file:///folder/model.tar.gz``."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from archives.extraction import ArchiveLimits, extract_stream
from endpoint.objects.extractions import Extractions
from endpoint.objects.store import (
    AccessRefused,
    ObjectChanged,
    ObjectInfo,
    ObjectMissing,
    Room,
    StoreError,
    StoreUnavailable,
)

SCHEME = "file://"

_CALLS = 4  # looks at once; in threads of their own, for a folder over the network may hang


class FileStore:
    """Files by URL. What follows ``file://`` is the path as it is: no character is escaped."""

    def __init__(self, extractions: Extractions) -> None:
        self._extractions = extractions
        self._calls = ThreadPoolExecutor(_CALLS, "files")

    async def head(self, url: str, *, patient: bool = True) -> ObjectInfo:
        """Look at a file. It is never looked at twice: what a file system says is so."""
        return await asyncio.get_running_loop().run_in_executor(self._calls, _head, url)

    async def has_prefix(self, url: str) -> None:
        """Raise StoreError unless it is a folder that can be listed."""
        await asyncio.get_running_loop().run_in_executor(self._calls, _list, url)

    async def extract(
        self, info: ObjectInfo, target: Path, limits: ArchiveLimits, room: Room
    ) -> int:
        """Extract a file, which may be a zip too; returns the bytes of its files."""
        stop = threading.Event()

        def work(room: Room) -> int:
            with _open(info) as file:
                return extract_stream(file, target, limits, name=info.url, stop=stop, room=room)

        return await self._extractions.run(work, room, stop.set, target)

    async def close(self) -> None:
        """End the threads, but for one that hangs."""
        self._calls.shutdown(wait=False, cancel_futures=True)


class _Unchanging(io.FileIO):
    """A file that must stay what it was when it was looked at."""

    def __init__(self, path: Path, info: ObjectInfo) -> None:
        super().__init__(path)
        self._info = info

    def readinto(self, buffer: Any, /) -> int | None:
        """Read, and raise ObjectChanged if it is another file or somebody has written to it."""
        count = super().readinto(buffer)
        if _etag(os.fstat(self.fileno())) != self._info.etag:
            raise ObjectChanged(f"{self._info.url} was changed while it was read; try again")
        return count


def _open(info: ObjectInfo) -> io.BufferedReader:
    try:
        return io.BufferedReader(_Unchanging(_path(info.url), info))
    except OSError as error:
        raise _failed(info.url, error) from error


def _head(url: str) -> ObjectInfo:
    try:
        status = _path(url).stat()
    except OSError as error:
        raise _failed(url, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise ObjectMissing(f"{url} is no file; it must be an archive")
    return ObjectInfo(url, status.st_size, _etag(status))


def _list(url: str) -> None:
    try:
        with os.scandir(_path(url)) as entries:
            next(entries, None)
    except OSError as error:
        raise _failed(url, error) from error


def _path(url: str) -> Path:
    text = url.removeprefix(SCHEME)
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise StoreError(f"{url!r} is no path of a file; write file:///folder/model.tar.gz")
    return Path(text)


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def _failed(url: str, error: OSError) -> StoreError:
    if isinstance(error, PermissionError):
        return AccessRefused(f"{url} may not be read by the user that the endpoint runs as")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ObjectMissing(f"there is no {url}")
    return StoreUnavailable(f"{url} cannot be read ({error.strerror})")
