"""Extractions side by side: those that wait for room on their disk hold nobody up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from endpoint.objects.extractions import Extractions
from endpoint.objects.store import Room, StoreUnavailable

from .archive_parts import no_limit

MANY = 40


def nothing() -> None:
    """Stops nothing."""


def test_a_disk_that_has_no_room_for_many_does_not_keep_the_others_from_theirs(
    tmp_path: Path,
) -> None:
    there_is_room = threading.Event()

    async def test() -> None:
        extractions = Extractions()
        stuck = [
            asyncio.create_task(
                extractions.run(ask_for_room, lambda _: _wait(there_is_room), nothing, tmp_path)
            )
            for _ in range(MANY)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert await extractions.run(lambda room: 2, no_limit, nothing, tmp_path) == 2
        there_is_room.set()
        assert await asyncio.gather(*stuck) == [1] * MANY
        await extractions.close()

    asyncio.run(test())


def test_only_so_many_work_at_once_and_all_get_their_turn(tmp_path: Path) -> None:
    working = threading.Semaphore(8)

    def work(_: object) -> int:
        assert working.acquire(blocking=False)
        threading.Event().wait(0.01)
        working.release()
        return 1

    async def test() -> None:
        extractions = Extractions()
        runs = [extractions.run(work, no_limit, nothing, tmp_path) for _ in range(MANY)]
        assert sum(await asyncio.gather(*runs)) == MANY
        await extractions.close()

    asyncio.run(test())


def test_those_that_wait_for_their_turn_are_told_when_it_ends(tmp_path: Path) -> None:
    stop = threading.Event()

    async def test() -> None:
        extractions = Extractions()
        runs = [
            asyncio.create_task(
                extractions.run(lambda _: int(stop.wait()), no_limit, stop.set, tmp_path)
            )
            for _ in range(MANY)
        ]
        await asyncio.sleep(0)
        await extractions.close()
        results = await asyncio.gather(*runs, return_exceptions=True)
        assert results[:8] == [1] * 8
        assert all(isinstance(result, StoreUnavailable) for result in results[8:])
        with pytest.raises(StoreUnavailable):
            await extractions.run(lambda _: 1, no_limit, nothing, tmp_path)

    asyncio.run(test())


def ask_for_room(room: Room) -> int:
    room(1)
    return 1


def _wait(event: threading.Event) -> None:
    event.wait()
