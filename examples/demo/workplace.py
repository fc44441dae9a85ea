"""The directory the demo works in: archives, extracted models, the server's log.

It stays after the demo, to look at, and is made afresh by the next one.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.demo.server import DemoError

LOCK = "demo.lock"


@dataclass(frozen=True)
class Workplace:
    """Where things lie. ``shown`` is the directory as the user gave it."""

    directory: Path
    shown: Path

    @property
    def models(self) -> Path:
        """Extracted models: on SageMaker, /opt/ml/models."""
        return self.directory / "models"

    @property
    def log(self) -> Path:
        """All that the server and its models print."""
        return self.directory / "server.log"

    @property
    def shown_log(self) -> Path:
        """The same, as the user would write it."""
        return self.shown / self.log.name

    def archive(self, name: str) -> Path:
        """The archive of a model: on SageMaker, an object under the endpoint's S3 prefix."""
        return self.directory / "archives" / f"{name}.tar.gz"


@contextmanager
def workplace(shown: Path) -> Iterator[Workplace]:
    """An empty workplace, for one demo at a time. Raises DemoError if it cannot be had."""
    directory = shown.resolve()
    _check_ours(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"another demo is running in {shown}; stop it, or give this one a --directory"
            ) from None
        for name in ("archives", "models"):
            shutil.rmtree(directory / name, ignore_errors=True)
        yield Workplace(directory, shown)


def _check_ours(directory: Path) -> None:
    """Never clear away what no demo has made."""
    if directory.exists() and not (directory / LOCK).exists() and any(directory.iterdir()):
        raise DemoError(f"{directory} is not empty and no directory of a demo; give another one")
