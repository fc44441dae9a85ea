"""Environments on disk: which are complete, who uses them, how large they are.

    KEY/                an environment, built in place, because it knows its own path
    KEY/complete.json   written last: an environment without it does not count
    KEY.lock            exclusive for who builds or deletes it, shared for servers that use it

Several servers may share the directory. Everything here blocks and is for threads.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model_server import own_directory
from model_server.environments.environment_key import KEY_CHARS

_STAMP = "complete.json"
_KEY = re.compile(rf"([0-9a-f]{{{KEY_CHARS}}})(?:\.lock)?")
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Stamp(msgspec.Struct, frozen=True):
    """A complete environment: size on disk, how long it took, the packages in it (name version)."""

    bytes: int
    seconds: float
    packages: list[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete environment as ``collect`` sees it."""

    key: str
    bytes: int
    used_ns: int


class EnvironmentStore:
    """The directory of environments."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory).absolute()

    def path(self, key: str) -> Path:
        """Where the environment of that key is or will be."""
        return self.directory / key

    def make(self) -> None:
        """Make the directory. Raises OSError or UnsafeDirectory when it cannot be trusted."""
        own_directory.make(self.directory)

    def find(self, key: str) -> Stamp | None:
        """The stamp of a complete environment; None when there is none, or somebody else's."""
        try:
            owners = {0, os.geteuid(), self.directory.stat().st_uid}
            if self.path(key).lstat().st_uid not in owners:
                return None
            content = (self.path(key) / _STAMP).read_bytes()
            return msgspec.json.decode(content, type=Stamp)
        except (OSError, msgspec.MsgspecError):
            return None

    def finish(self, key: str, seconds: float, packages: list[str]) -> Stamp:
        """Declare an environment complete, once everything of it is on disk."""
        path = self.path(key)
        stamp = Stamp(_size(path), seconds, packages)
        _flush(path)
        new = path / f"{_STAMP}.new"
        new.write_bytes(msgspec.json.encode(stamp))
        new.rename(path / _STAMP)
        return stamp

    def touch(self, key: str) -> None:
        """Note that it is used now."""
        with suppress(OSError):  # built into an image, and not ours to write
            os.utime(self.path(key) / _STAMP)

    def lock(self, key: str, operation: int) -> int | None:
        """A descriptor that holds the lock for as long as it is open; None when others have it.

        ``operation`` is ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``. What cannot be written needs no
        shared lock: nobody deletes it.
        """
        path = self.directory / f"{key}.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            readable = error.errno in _READ_ONLY and self.path(key).is_dir()
            if operation == fcntl.LOCK_EX or not readable:
                raise
            return os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == path.stat().st_ino:
                return fd  # else it was deleted just before: the lock is on nothing
        os.close(fd)
        return None

    def claim(self, key: str) -> tuple[int, Stamp | None] | None:
        """The shared lock on a complete environment and its stamp, or the exclusive one and None.

        None when another server builds or deletes it.
        """
        for operation in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            fd = self.lock(key, operation)
            if fd is None:
                continue
            stamp = self.find(key)
            if (stamp is not None) == (operation == fcntl.LOCK_SH):
                return fd, stamp
            os.close(fd)
        return None

    def clear(self, key: str) -> None:
        """Remove an environment or what is left of one. The caller has the exclusive lock."""
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.path(key) / _STAMP).unlink()
        shutil.rmtree(self.path(key), ignore_errors=True)

    def delete(self, key: str) -> None:
        """The same, and the file of the lock, which the caller then lets go."""
        self.clear(key)
        (self.directory / f"{key}.lock").unlink(missing_ok=True)

    def collect(self, max_bytes: int, keep: Set[str]) -> list[str]:
        """Delete what crashed builds left, and complete ones, longest unused first, above the size.

        Neither those in ``keep`` nor what another server builds or uses. Returns the keys deleted.
        """
        deleted = []
        stored = []
        for key in self._keys():
            found = self._stored(key)
            if found is not None:
                stored.append(found)
            elif key not in keep:
                self._delete_unless_locked(key, only_incomplete=True)
        total = sum(one.bytes for one in stored)
        for one in sorted(stored, key=lambda one: one.used_ns):
            if total <= max_bytes:
                break
            if one.key not in keep and self._delete_unless_locked(one.key, only_incomplete=False):
                total -= one.bytes
                deleted.append(one.key)
        return deleted

    def _keys(self) -> set[str]:
        try:
            names = [place.name for place in self.directory.iterdir()]
        except OSError:  # not made yet, or not for us to see
            return set()
        return {match[1] for match in map(_KEY.fullmatch, names) if match}

    def _stored(self, key: str) -> Stored | None:
        stamp = self.find(key)
        if stamp is None:
            return None
        try:
            return Stored(key, stamp.bytes, (self.path(key) / _STAMP).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def _delete_unless_locked(self, key: str, *, only_incomplete: bool) -> bool:
        try:
            fd = self.lock(key, fcntl.LOCK_EX)
        except OSError:  # not ours to delete
            return False
        if fd is None:
            return False
        try:
            if only_incomplete and self.find(key) is not None:
                return False  # it was finished in between
            self.delete(key)
            return True
        finally:
            os.close(fd)


def _size(directory: Path) -> int:
    """Bytes on disk."""
    total = 0
    for root, _, files in os.walk(directory):
        total += sum(Path(root, name).lstat().st_blocks * 512 for name in files)
    return total


def _flush(directory: Path) -> None:
    """Write the file system's dirty pages: after a power cut the stamp must not be all there is."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)
