"""The disk has less space than the budget allows: a real small file system."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from archives.errors import DiskFull, NoRoomNow
from endpoint.cache.disk_cache import DiskCache
from tests.endpoint.cache.parts import Users, add, files_in, id_of, model, targets

MIB = 1 << 20

# Of which extraction leaves 5 % free.
_SIZE = 21 * MIB


def _mount(directory: Path, size: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    _mount(directory, _SIZE)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_what_nobody_needs_goes_when_the_disk_is_full(small_disk: Path) -> None:
    async def work() -> None:
        users = Users()
        cache = DiskCache(small_disk / "models", 1000 * MIB, users)
        await cache.open()
        for number in (1, 2, 3):
            await add(cache, number, 6 * MIB)
        users.busy = {id_of(2)}
        await add(cache, 4, 8 * MIB)
        assert targets(cache) == ["2.tar.gz", "4.tar.gz"]
        assert files_in(cache.path(id_of(4))) == model(4, 8 * MIB)
        assert cache.used_bytes == 14 * MIB
        users.busy, users.idle = {id_of(2)}, [id_of(4)]
        await add(cache, 5, 10 * MIB)  # somebody in memory must go first
        assert targets(cache) == ["2.tar.gz", "5.tar.gz"]
        await cache.close()

    asyncio.run(work())


def test_a_full_disk_of_models_in_use_is_an_error_that_leaves_nothing(small_disk: Path) -> None:
    async def work() -> None:
        users = Users()
        cache = DiskCache(small_disk / "models", 1000 * MIB, users)
        await cache.open()
        await add(cache, 1, 15 * MIB)
        users.busy = {id_of(1)}
        with pytest.raises(NoRoomNow, match=rf"disk of {small_disk}/models has \d+ bytes left"):
            await add(cache, 2, 21 * MIB)
        waiting = asyncio.create_task(add(cache, 3, 10 * MIB))
        await asyncio.sleep(0.3)
        assert targets(cache) == ["1.tar.gz"]
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert cache.used_bytes == 15 * MIB
        assert [path.name for path in (small_disk / "models").iterdir()] == [id_of(1)]
        await cache.close()

    asyncio.run(work())


def test_all_idle_models_leave_a_full_disk_if_it_takes_them_all(small_disk: Path) -> None:
    async def work() -> None:
        users = Users()
        cache = DiskCache(small_disk / "models", 1000 * MIB, users)
        await cache.open()
        for number in (1, 2, 3, 4):
            await add(cache, number, 4 * MIB)
        users.idle = [id_of(number) for number in (1, 2, 3, 4)]
        await add(cache, 5, 18 * MIB)
        assert targets(cache) == ["5.tar.gz"]
        assert users.idle == []
        await cache.close()

    asyncio.run(work())


def test_one_that_finds_the_disk_full_of_models_in_use_waits(small_disk: Path) -> None:
    async def work() -> None:
        users = Users()
        cache = DiskCache(small_disk / "models", 1000 * MIB, users)
        await cache.open()
        await add(cache, 1, 12 * MIB)
        users.busy = {id_of(1)}
        waiting = asyncio.create_task(add(cache, 2, 12 * MIB))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        users.busy = set()
        cache.touch(id_of(1))
        await asyncio.wait_for(waiting, 60)
        assert targets(cache) == ["2.tar.gz"]
        await cache.close()

    asyncio.run(work())


def test_many_that_come_at_once_to_a_full_disk_all_come(small_disk: Path) -> None:
    async def work() -> None:
        cache = DiskCache(small_disk / "models", 1000 * MIB, Users())
        await cache.open()
        async with asyncio.timeout(60):
            await asyncio.gather(*(add(cache, number, 8 * MIB) for number in range(6)))
        assert cache.used_bytes <= 16 * MIB
        await cache.close()

    asyncio.run(work())


def test_a_disk_without_a_byte_left_says_so(small_disk: Path) -> None:
    async def work() -> None:
        cache = DiskCache(small_disk / "models", 1000 * MIB, Users())
        await cache.open()
        await add(cache, 1, MIB)
        with (small_disk / "others").open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(MIB))
        with pytest.raises(DiskFull):
            await add(cache, 2, MIB)
        (small_disk / "others").unlink()
        await add(cache, 3, MIB)
        assert targets(cache) == ["3.tar.gz"]
        await cache.close()

    asyncio.run(work())


def test_what_cannot_be_deleted_still_counts(small_disk: Path) -> None:
    models = small_disk / "models"

    async def before() -> None:
        cache = DiskCache(models, 1000, Users())
        await cache.open()
        await add(cache, 1, 600)
        await cache.close()

    async def after() -> None:
        cache = DiskCache(models, 1000, Users())
        await cache.open()
        await cache.remove(id_of(1))
        assert (cache.all(), cache.used_bytes) == ([], 598)
        with pytest.raises(DiskFull):
            await add(cache, 1, 403)
        await add(cache, 1, 402)
        await cache.close()

    async def used_at_a_start() -> int:
        cache = DiskCache(models, 1000, Users())
        await cache.open()
        await cache.close()
        return cache.used_bytes

    asyncio.run(before())
    held = models / id_of(1) / "model" / "weights.bin"
    subprocess.run(["mount", "--bind", str(held), str(held)], check=True)
    try:
        asyncio.run(after())
        assert asyncio.run(used_at_a_start()) == 402 + 598
    finally:
        (left,) = models.glob(".leaving-*/model/weights.bin")
        subprocess.run(["umount", "--lazy", str(left)], check=True)
    assert asyncio.run(used_at_a_start()) == 402
