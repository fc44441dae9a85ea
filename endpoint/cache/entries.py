"""Models' directories as they lie on the disk: made, found again after a crash, removed.

    <directory>/<id>/model/        the model
    <directory>/<id>/entry.json    what it is; its time of modification is that of the last use
    <directory>/.incoming-<id>-*   one that is being made
    <directory>/.leaving-<id>-*    one that is being removed

A directory has its id for a name only while it is whole. What works on the disk blocks, and is for
threads. Callers see to it that no two work on one id at a time, and no two processes on a cache.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from archives.errors import DiskFull, ExtractionError
from endpoint.cache.disk_plan import Stored

log = logging.getLogger("modelyard.endpoint")

_ID = re.compile(r"[0-9a-f]{32}")
_INCOMING, _LEAVING = ".incoming-", ".leaving-"
_ENTRY = "entry.json"

# Where the model is in its directory.
MODEL = "model"

_decoder = msgspec.json.Decoder(Stored)


class Entries:
    """The directories of one cache."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, id: str) -> Path:
        """The directory of that id. Raises ValueError if it is none, but could be any path."""
        if not _ID.fullmatch(id):
            raise ValueError(f"{id!r} is not an id of 32 hexadecimal digits")
        return self._directory / id

    def model(self, id: str) -> Path:
        """Where its model is."""
        return self.path(id) / MODEL

    def recover(self) -> tuple[list[Stored], int]:
        """All that is whole; what a crash has left goes, and what is not ours stays.

        Makes the directory if it is not there. Returns, too, the bytes that could not be removed.
        Raises OSError.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        found: list[Stored] = []
        stuck = 0
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith((_INCOMING, _LEAVING)):
                stuck += _erase(path)
            elif _ID.fullmatch(path.name):
                stored = _read(path)
                if stored is not None:
                    found.append(stored)
                else:
                    log.warning("%s is not whole, and is removed", path)
                    stuck += self.remove(path.name)
        return found, stuck

    def incoming(self, id: str) -> Path:
        """A new name for a directory that is to be filled."""
        return self._hidden(_INCOMING, id)

    def begin(self, incoming: Path) -> None:
        """Make it, so that ``model`` can be made in it. Raises ExtractionError."""
        with _explained(incoming):
            incoming.mkdir(0o755)

    def publish(self, incoming: Path, stored: Stored) -> None:
        """Give a filled directory its name. Raises ExtractionError.

        Only the entry is synced: a model's files may be many and large. What a loss of power takes
        from them makes them shorter, which ``recover`` sees.
        """
        with _explained(incoming):
            entry = incoming / _ENTRY
            with entry.open("wb") as file:
                file.write(msgspec.json.encode(stored))
                file.flush()
                os.fsync(file.fileno())
            os.utime(entry, (stored.last_used, stored.last_used))
            _sync(incoming)
            incoming.rename(self.path(stored.id))
            _sync(self._directory)

    def discard(self, incoming: Path) -> None:
        """Remove what ``begin`` made, if it is still there."""
        if incoming.exists():
            _erase(incoming)

    def remove(self, id: str) -> int:
        """Remove a directory; returns the bytes that could not be, as the log then says."""
        hidden = self._hidden(_LEAVING, id)
        try:
            self.path(id).rename(hidden)
            _sync(self._directory)  # before anything is missing in it
        except OSError as error:
            log.error("%s cannot be removed: %s", self.path(id), error)
            return _left(self.path(id))
        return _erase(hidden)

    def write_uses(self, uses: Mapping[str, float]) -> None:
        """Keep when each was last used. Those that have gone meanwhile do not matter."""
        for id, last_used in uses.items():
            with suppress(OSError):
                os.utime(self.path(id) / _ENTRY, (last_used, last_used))

    def _hidden(self, prefix: str, id: str) -> Path:
        return self._directory / f"{prefix}{self.path(id).name}-{secrets.token_hex(4)}"


def size_of(directory: Path) -> int:
    """The sum of the sizes of all files below it; one with two names counts once."""
    total = 0
    seen: set[int] = set()
    for parent, _, names in os.walk(directory):
        for name in names:
            info = (Path(parent) / name).lstat()
            if info.st_nlink == 1 or info.st_ino not in seen:
                total += info.st_size
                seen.add(info.st_ino)
    return total


def _read(directory: Path) -> Stored | None:
    """What a directory of an earlier life holds, None if it is not whole."""
    try:
        with (directory / _ENTRY).open("rb") as file:
            stored = _decoder.decode(file.read())
            used = os.fstat(file.fileno()).st_mtime
        if not (directory / MODEL).is_dir() or stored.id != directory.name:
            return None
        size = size_of(directory / MODEL)
    except (OSError, ValueError, RecursionError):
        return None
    if size < stored.bytes:
        return None
    # More is well: a container may have put compiled code there.
    return replace(stored, bytes=size, last_used=min(used, time.time()))


def _erase(path: Path) -> int:
    """Remove whatever it is; returns the bytes that could not be, as the log then says."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)  # the rest
        if path.exists():
            log.error("%s cannot be removed, and takes space until it is: %s", path, error)
        return _left(path)
    return 0


def _left(path: Path) -> int:
    """About what is still there of something that cannot be removed."""
    try:
        return size_of(path)
    except OSError:
        return 0


def _sync(directory: Path) -> None:
    """Make names in a directory last."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {path.parent} is full.") from error
        raise ExtractionError(f"{path.parent} cannot be written to: {error.strerror}.") from error
