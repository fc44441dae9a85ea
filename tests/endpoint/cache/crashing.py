"""Work with a cache that is killed at its n-th step on the file system. Runs in a child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

from endpoint.cache.disk_cache import DiskCache, Stored
from tests.endpoint.cache.parts import Users, add, id_of

BUDGET = 1000

# What Python tells of before it does it.
_STEPS = {
    "open",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "os.utime",
    "shutil.rmtree",
}


def size(number: int) -> int:
    """Bytes of each model."""
    return 250 + 20 * number


def lived(directory: Path, journal: Path, step: int) -> None:
    """A life of a cache, killed at that step: models come, are used, go, make room."""
    _run(_life(directory, Journal(journal)), step)


def opened(directory: Path, step: int) -> None:
    """A start of a cache and nothing else, killed at that step."""
    _run(_start(directory), step)


class Journal(Users):
    """Writes down what the cache has acknowledged, where a kill does not matter."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, word: str, number: int) -> None:
        """One fact."""
        os.write(self._fd, f"{word} {number}\n".encode())

    def deleted(self, stored: Stored) -> None:
        """It is not promised any more."""
        self.write("gone", int(stored.id, 16))


async def _life(directory: Path, journal: Journal) -> None:
    async def come(number: int) -> None:
        await add(cache, number, size(number))
        journal.write("there", number)

    async def go(number: int) -> None:
        journal.write("gone", number)
        await cache.remove(id_of(number))

    cache = DiskCache(directory, BUDGET, journal)
    await cache.open()
    for number in (1, 2, 3):
        await come(number)
    cache.touch(id_of(1))
    await come(4)
    await go(3)
    await asyncio.gather(come(5), come(6))
    await asyncio.gather(come(3), go(6))
    await cache.close()


async def _start(directory: Path) -> None:
    cache = DiskCache(directory, BUDGET, Users())
    await cache.open()
    await cache.close()


def _run(work: Any, step: int) -> None:
    steps = count(1)

    def killed(event: str, _: tuple[Any, ...]) -> None:
        if event in _STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(killed)
    asyncio.run(work)
