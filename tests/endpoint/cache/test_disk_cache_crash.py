"""Whenever a cache's process is killed, the next one finds whole models and nothing else."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
from itertools import count
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from endpoint.cache.disk_cache import DiskCache
from tests.endpoint.cache import crashing
from tests.endpoint.cache.crashing import BUDGET, size
from tests.endpoint.cache.parts import Users, add, bytes_below, files_in, id_of, model


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.endpoint.cache.crashing"])
    return context


def _is_killed(processes: ForkServerContext, target: Any, *values: Any) -> bool:
    """Run something in a child; whether it was killed before its end."""
    child = processes.Process(target=target, args=values)
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    killed = child.exitcode != 0
    child.close()
    return killed


def _check(directory: Path, promised: set[int]) -> None:
    """What is there is whole and within the budget, nothing else is, and it goes on."""

    async def check() -> None:
        cache = DiskCache(directory, BUDGET, Users())
        await cache.open()
        there = {int(stored.id, 16) for stored in cache.all()}
        assert promised <= there
        assert set(os.listdir(directory)) == {id_of(number) for number in there}  # noqa: PTH208
        for number in there:
            assert files_in(cache.path(id_of(number))) == model(number, size(number))
        assert cache.used_bytes == bytes_below(directory) <= BUDGET
        await add(cache, 9, 700)
        assert files_in(cache.path(id_of(9))) == model(9, 700)
        assert cache.used_bytes == bytes_below(directory) <= BUDGET
        await cache.close()

    asyncio.run(check())


def _promised(journal: Path) -> set[int]:
    numbers: set[int] = set()
    for line in journal.read_text().splitlines() if journal.exists() else ():
        word, number = line.split()
        if word == "there":
            numbers.add(int(number))
        else:
            numbers.discard(int(number))
    return numbers


@pytest.mark.timeout(240)
def test_a_kill_at_any_step_loses_nothing_and_leaves_nothing(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    for step in count(1):
        directory, journal = tmp_path / str(step), tmp_path / f"{step}.txt"
        directory.mkdir()
        killed = _is_killed(processes, crashing.lived, directory, journal, step)
        _check(directory, _promised(journal))
        shutil.rmtree(directory)
        if not killed:
            break
    assert step > 150


def test_a_kill_at_any_step_of_the_recovery_does_no_more_harm(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    wreck = tmp_path / "wreck"
    asyncio.run(_make_wreck(wreck))
    for step in count(1):
        directory = tmp_path / str(step)
        shutil.copytree(wreck, directory)
        killed = _is_killed(processes, crashing.opened, directory, step)
        _check(directory, {2, 3, 4})
        if not killed:
            break
    assert step > 50


async def _make_wreck(directory: Path) -> None:
    """Half a model on its way in, half a model on its way out, one too many, one not whole."""
    cache = DiskCache(directory, 10 * BUDGET, Users())
    await cache.open()
    for number in (1, 2, 3, 4, 5, 6, 7):
        await add(cache, number, size(number))
        cache.touch(id_of(number))
    for number in (2, 3, 4):
        cache.touch(id_of(number))
    await cache.close()
    (directory / id_of(5)).rename(directory / f".leaving-{id_of(5)}-1")
    (directory / id_of(6)).rename(directory / f".incoming-{id_of(6)}-1")
    (directory / f".incoming-{id_of(6)}-1" / "entry.json").unlink()
    (directory / id_of(7) / "entry.json").write_bytes(b"{")
