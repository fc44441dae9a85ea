"""Directories in places that others can write to, such as below /tmp: made, and trusted or not."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


class UnsafeDirectory(Exception):
    """Raised when the directory is in a shared place and belongs to somebody else."""


def make(directory: Path) -> None:
    """Make an absolute directory and its parents. Raises OSError or UnsafeDirectory."""
    for place in reversed((directory, *directory.parents)):
        with suppress(FileExistsError):
            place.mkdir(mode=0o755)
    _check_owners(directory)


def remove_unless_locked(directory: Path, lock: Path) -> None:
    """Remove a directory whose owner is gone: it holds ``lock`` for as long as it lives."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(fd)


def _check_owners(directory: Path) -> None:
    """Below a directory that anybody may write to, such as /tmp, the rest must be ours."""
    shared = False
    for place in reversed((directory, *directory.parents)):
        info = place.lstat()
        if shared and info.st_uid not in (0, os.geteuid()):
            raise UnsafeDirectory(f"{place} belongs to user {info.st_uid}, who could change them")
        shared = shared or bool(info.st_mode & stat.S_ISVTX and info.st_mode & stat.S_IWOTH)
