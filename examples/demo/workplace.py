"""The directory the demo works in: archives, and the endpoint's data and log.

It stays after the demo, to look at, and is made afresh by the next one.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.demo.errors import DemoError
from modelyard.data_dir import DataDir

LOCK = "demo.lock"


@dataclass(frozen=True)
class Workplace:
    """Where things lie. ``shown`` is the directory as the user gave it."""

    directory: Path
    shown: Path

    @property
    def archives(self) -> Path:
        """What is uploaded to the bucket."""
        return self.directory / "archives"

    @property
    def endpoint(self) -> Path:
        """The data directory of ``modelyard up``."""
        return self.directory / "endpoint"

    @property
    def shown_endpoint(self) -> Path:
        """The same, as the user would write it."""
        return self.shown / self.endpoint.name


@contextmanager
def workplace(shown: Path) -> Iterator[Workplace]:
    """An empty workplace, for one demo at a time. Raises DemoError if it cannot be had."""
    place = Workplace(shown.resolve(), shown)
    _check_ours(place.directory)
    try:
        place.directory.mkdir(parents=True, exist_ok=True)
        lock = (place.directory / LOCK).open("a")
    except OSError as error:
        raise DemoError(
            f"{shown} cannot be used ({error.strerror}); give another --directory"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"another demo is running in {shown}; stop it, or give this one a --directory"
            ) from None
        _clear(place)
        yield place


def _check_ours(directory: Path) -> None:
    """Never clear away what no demo has made."""
    if directory.is_dir() and not (directory / LOCK).exists() and any(directory.iterdir()):
        raise DemoError(f"{directory} is not empty and no directory of a demo; give another one")


def _clear(place: Workplace) -> None:
    if DataDir(str(place.endpoint)).holder() is not None:
        raise DemoError(
            f"the endpoint of an earlier demo runs in {place.shown}; it ends with\n"
            f"  .venv/bin/modelyard down --data-dir {place.shown_endpoint}"
        )
    for directory in (place.archives, place.endpoint):
        shutil.rmtree(directory, ignore_errors=True)
    place.archives.mkdir()
