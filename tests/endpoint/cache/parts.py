"""Real archives for a cache, those who use what is in it, and a look at what is on its disk."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from archives.extraction import ArchiveLimits, extract_stream
from endpoint.cache.adding import Fill
from endpoint.cache.disk_cache import DiskCache, Stored
from endpoint.objects.store import ObjectInfo, Room

LIMITS = ArchiveLimits(1 << 30, 10_000)

Files = Mapping[str, bytes]


class Users:
    """Tenants of a cache: some models are in memory, some of those are idle."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.idle: list[str] = []
        self.went: list[str] = []

    def pinned(self) -> set[str]:
        """All in memory."""
        return {*self.busy, *self.idle}

    async def release(self) -> bool:
        """One that is idle goes."""
        await asyncio.sleep(0)
        if not self.idle:
            return False
        self.idle.pop(0)
        return True

    def deleted(self, stored: Stored) -> None:
        """Remember who went."""
        self.went.append(stored.target)


def id_of(number: int) -> str:
    """An id."""
    return f"{number:032x}"


def model(number: int, size: int) -> dict[str, bytes]:
    """Files of a model: ``size`` bytes in all, which compress well."""
    words = f"{number}: ".encode()
    weights = (words * (size // len(words) + 1))[: size - 2]
    return {"weights.bin": weights, "code/config.json": b"{}"}


def archive(files: Files) -> bytes:
    """A tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def filling(files: Files, seen: Callable[[Path], None] | None = None) -> Fill:
    """Extracts an archive in a thread of the loop's own, and shows the directory at each file."""
    data = archive(files)

    async def fill(target: Path, room: Room) -> int:
        def asked(total: int) -> None:
            room(total)
            if seen is not None:
                seen(target)

        def extract() -> int:
            source = io.BytesIO(data)
            return extract_stream(source, target, LIMITS, name="x.tar.gz", stop=stop, room=asked)

        stop = threading.Event()
        extracting = asyncio.ensure_future(asyncio.to_thread(extract))
        try:
            return await asyncio.shield(extracting)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({extracting})
            extracting.exception()
            raise

    return fill


async def add(cache: DiskCache, number: int, size: int, *, told: int = 1) -> Stored:
    """Add a model whose archive is said to have ``told`` bytes."""
    return await cache.add(
        id_of(number), f"{number}.tar.gz", info(number, told), filling(model(number, size))
    )


def info(number: int, size: int) -> ObjectInfo:
    """An object."""
    return ObjectInfo(f"s3://models/{number}.tar.gz", size, f"etag-{number}")


def targets(cache: DiskCache) -> list[str]:
    """What is in it."""
    return sorted(stored.target for stored in cache.all())


def files_in(directory: Path) -> dict[str, bytes]:
    """All files below it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def bytes_below(directory: Path) -> int:
    """What files take, those included that go while we look."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            if name != "entry.json":
                with suppress(FileNotFoundError):
                    total += (Path(parent) / name).stat().st_size
    return total
