"""The directory of one endpoint, for those who are not the endpoint: does it run, and where?

Whoever runs it holds a lock, so nobody has to guess whether a process id still means anything. What
it says about itself stays when it is killed, for ``modelyard down`` to find what is left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

# It marks a directory as an endpoint's, so its name is nobody else's.
_LOCK = "modelyard-endpoint.lock"
_LOG, _RUNNING = "log", "running.json"

# What an endpoint and its S3 write into it, besides.
_STATE = "state.sqlite"
_ENTRIES = (
    *(_LOG, _RUNNING, "running.new", "instances", "s3"),
    *(_STATE, f"{_STATE}-wal", f"{_STATE}-shm", f"{_STATE}-journal"),
)

# Two that look at the lock at the same moment are in each other's way for less than this.
_LOCK_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class DataDirError(Exception):
    """Raised for a directory that cannot be used; the text says what to do."""


class Running(msgspec.Struct, frozen=True):
    """What a running endpoint says about itself.

    ``s3`` is the URL of the object store, "" for AWS's own, and ``own_s3`` whether we brought it
    along; ``region`` is that of both. ``settings`` are those that differ from the defaults, as
    options.
    """

    pid: int
    url: str
    s3: str
    own_s3: bool
    region: str
    settings: dict[str, str]


class DataDir:
    """A data directory, which need not be there."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self.log = self.path / _LOG
        self._lock = self.path / _LOCK
        self._running = self.path / _RUNNING

    @property
    def is_ours(self) -> bool:
        """Whether an endpoint has ever used it."""
        return self._lock.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else runs on it meanwhile. Raises DataDirError."""
        with self._opened(self._lock) as file:
            if not _within(_LOCK_SECONDS, lambda: _lock(file.fileno(), fcntl.LOCK_EX)):
                raise DataDirError(f"another endpoint runs on {self.path}; give another --data-dir")
            file.truncate(0)
            file.write(str(os.getpid()).encode())
            file.flush()
            self._running.unlink(missing_ok=True)
            yield
            self._running.unlink(missing_ok=True)  # unless it failed: there may be something left

    def opened_log(self) -> IO[bytes]:
        """The log, to be appended to. Raises DataDirError."""
        return self._opened(self.log)

    def _opened(self, path: Path) -> IO[bytes]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._mark()
            return path.open("ab")
        except OSError as error:
            raise DataDirError(
                f"{self.path} cannot be used ({error.strerror}); make it writable, or give another "
                "--data-dir"
            ) from error

    def _mark(self) -> None:
        """Make it ours, unless somebody else has something there under a name of ours."""
        others = self._entries()
        if others and not self.is_ours:  # in this order: the mark comes first, by whomever
            raise DataDirError(
                f"{self.path} has no endpoint's data, but a {others[0].name} of somebody else; "
                "give an empty or a new --data-dir"
            )
        self._lock.touch()

    def announce(self, running: Running) -> None:
        """Tell others, by whoever holds the lock."""
        written = self._running.with_suffix(".new")
        written.write_bytes(msgspec.json.encode(running))
        written.replace(self._running)

    def holder(self) -> int | None:
        """The process that runs on it, be it ready or not; None if there is none."""
        with suppress(FileNotFoundError), self._lock.open() as file:
            if not _lock(file.fileno(), fcntl.LOCK_SH):
                text = file.read()
                return int(text) if text.isdecimal() else 0  # 0: it is about to write it
        return None

    def running(self) -> Running | None:
        """What runs on it and is ready."""
        return self.last() if self.holder() else None

    def last(self) -> Running | None:
        """What ran on it last, if it was killed; or what runs on it now."""
        try:
            return msgspec.json.decode(self._running.read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def wait_until_free(self, timeout_seconds: float) -> bool:
        """Whether nobody runs on it after at most this time."""
        return _within(timeout_seconds, lambda: self.holder() is None)

    def wait_until_running(
        self, timeout_seconds: float, ended: Callable[[], bool]
    ) -> Running | None:
        """What is ready after at most this time; None too when ``ended`` says it will not be."""
        _within(timeout_seconds, lambda: self.running() is not None or ended())
        return self.running()

    def remove(self) -> bool:
        """Delete what an endpoint has written, and the directory; whether somebody has more in it.

        Raises OSError.
        """
        for path in self._entries() if self.is_ours else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._lock.unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return True
        return False

    def _entries(self) -> list[Path]:
        """All that is ours but for the lock, which says that it is."""
        return [path for name in _ENTRIES if os.path.lexists(path := self.path / name)]


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
