"""Models on an instance's disk: whole, within the budget, whatever happens at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from archives.errors import ArchiveError, DiskFull
from endpoint.cache import disk_cache
from endpoint.cache.disk_cache import DiskCache
from endpoint.objects.store import Room
from tests.endpoint.cache.parts import (
    Users,
    add,
    bytes_below,
    files_in,
    filling,
    id_of,
    info,
    model,
    targets,
)


class _Bench:
    """A cache, its users, and a loop's run of something with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.users = Users()

    def run(self, work: Any, budget: int = 1000) -> None:
        """Open a cache, do something, close it."""

        async def _run() -> None:
            cache = DiskCache(self.directory, budget, self.users)
            await cache.open()
            await work(cache)
            await cache.close()

        asyncio.run(_run())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[_Bench]:
    made = _Bench(tmp_path / "models")
    yield made
    hidden = [path.name for path in made.directory.iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_what_is_added_is_there_whole_and_counts_with_its_files_bytes(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        stored = await add(cache, 1, 300, told=10)
        assert (stored.bytes, stored.target, stored.etag) == (300, "1.tar.gz", "etag-1")
        assert cache.get(id_of(1)) == stored
        assert cache.path(id_of(1)) == bench.directory / id_of(1) / "model"
        assert files_in(cache.path(id_of(1))) == model(1, 300)
        assert (cache.used_bytes, cache.budget_bytes) == (300, 1000)

    bench.run(work)


def test_the_least_recently_used_goes_to_make_room(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        for number in (1, 2, 3):
            await add(cache, number, 300)
        cache.touch(id_of(1))
        await add(cache, 4, 300)
        assert targets(cache) == ["1.tar.gz", "3.tar.gz", "4.tar.gz"]
        assert bench.users.went == ["2.tar.gz"]
        assert not (bench.directory / id_of(2)).exists()

    bench.run(work)


def test_files_larger_than_their_archive_get_room_as_they_come(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 400)
        await add(cache, 2, 400)
        await add(cache, 3, 700, told=100)
        assert targets(cache) == ["3.tar.gz"]
        assert cache.used_bytes == 700

    bench.run(work)


@pytest.mark.parametrize("told", [1, 500])
def test_one_that_finds_all_in_use_waits_until_one_is_not(
    bench: _Bench, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_cache, "_LOOK_SECONDS", 600.0)  # it is told

    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 800)
        bench.users.busy = {id_of(1)}
        waiting = asyncio.create_task(add(cache, 2, 500, told=told))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await add(cache, 3, 100)  # there is room for that
        bench.users.busy, bench.users.idle = {id_of(3)}, [id_of(1)]
        cache.touch(id_of(1))
        await asyncio.wait_for(waiting, 60)
        assert targets(cache) == ["2.tar.gz", "3.tar.gz"]

    bench.run(work)


def test_many_that_come_at_once_wait_for_one_another(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        async def use(number: int) -> None:
            bench.users.busy.add(id_of(number))
            await add(cache, number, 400, told=390)
            await asyncio.sleep(0.02)
            bench.users.busy.discard(id_of(number))
            bench.users.idle.append(id_of(number))
            cache.touch(id_of(number))

        async with asyncio.timeout(60):
            await asyncio.gather(*(use(number) for number in range(12)))
        assert len(bench.users.went) == 10

    bench.run(work)


def test_models_that_each_hold_what_the_others_wait_for_all_come(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        async with asyncio.timeout(60):
            # Three have begun with 300 of 1000 bytes each when they ask for 700.
            await asyncio.gather(*(add(cache, number, 700, told=300) for number in range(4)))
        assert len(bench.users.went) == 3
        assert (len(cache.all()), cache.used_bytes) == (1, 700)

    bench.run(work)


def test_one_in_need_of_room_goes_before_those_that_have_not_begun(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 500)
        bench.users.busy = {id_of(1)}
        first = asyncio.create_task(add(cache, 2, 900, told=400))
        while not cache._growing:  # noqa: ASYNC110, nobody is told
            await asyncio.sleep(0.01)
        second = asyncio.create_task(add(cache, 3, 200, told=200))
        await asyncio.sleep(0.1)
        assert not second.done()
        bench.users.busy = set()
        cache.touch(id_of(1))
        async with asyncio.timeout(60):
            await asyncio.gather(first, second)
        assert bench.users.went == ["1.tar.gz", "2.tar.gz"]

    bench.run(work)


def test_what_is_pinned_stays_and_the_error_has_numbers(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 300)
        await add(cache, 2, 600)
        bench.users.busy = {id_of(2)}
        waiting = asyncio.create_task(add(cache, 3, 401, told=401))
        await asyncio.sleep(0.1)
        assert targets(cache) == ["1.tar.gz", "2.tar.gz"]  # none went in vain
        assert cache.used_bytes == 900
        waiting.cancel()
        await asyncio.wait({waiting})
        with pytest.raises(DiskFull, match=r"3.tar.gz takes at least 1001 bytes .* 1000; 600 are"):
            await add(cache, 3, 1001, told=1001)
        assert targets(cache) == ["1.tar.gz", "2.tar.gz"]
        await add(cache, 4, 400)
        assert targets(cache) == ["2.tar.gz", "4.tar.gz"]

    bench.run(work)


def test_idle_models_leave_memory_until_there_is_room(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        for number in (1, 2, 3):
            await add(cache, number, 300)
        bench.users.idle = [id_of(2), id_of(1), id_of(3)]
        await add(cache, 4, 600)
        assert targets(cache) == ["3.tar.gz", "4.tar.gz"]
        assert bench.users.idle == [id_of(3)]

    bench.run(work)


def test_nobody_is_disturbed_for_what_can_never_fit(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 300)
        bench.users.idle = [id_of(1)]
        with pytest.raises(DiskFull):
            await add(cache, 2, 10, told=1001)
        assert bench.users.idle == [id_of(1)]
        assert targets(cache) == ["1.tar.gz"]

    bench.run(work)


def test_many_that_come_at_once_never_take_more_than_the_budget(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        over: list[int] = []

        def seen(_: Path) -> None:
            if (taken := bytes_below(bench.directory)) > cache.budget_bytes:
                over.append(taken)

        async def one(number: int) -> None:
            size = 2000 + 500 * (number % 5)
            await cache.add(
                id_of(number), str(number), info(number, 100), filling(model(number, size), seen)
            )

        for first in range(0, 40, 4):
            # Four of at most 4,000 bytes always fit: what is unpinned goes.
            await asyncio.gather(*(one(number) for number in range(first, first + 4)))
            assert bytes_below(bench.directory) == cache.used_bytes <= cache.budget_bytes
            assert over == []
        assert len(bench.users.went) > 30

    bench.run(work, budget=16_000)


def test_threads_that_all_wait_for_room_do_not_keep_it_from_being_made(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        with ThreadPoolExecutor(2) as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            for number in range(10):
                await add(cache, number, 100)
            await asyncio.gather(*(add(cache, number, 250) for number in range(20, 24)))
            assert targets(cache) == ["20.tar.gz", "21.tar.gz", "22.tar.gz", "23.tar.gz"]

    bench.run(work)


def test_a_model_that_cannot_be_extracted_leaves_nothing(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        for wrong in ({}, {"../out": b"x" * 10}):
            with pytest.raises(ArchiveError):
                await cache.add(id_of(1), "1.tar.gz", info(1, 500), filling(wrong))
            assert (cache.used_bytes, cache.all()) == (0, [])
            assert list(bench.directory.iterdir()) == []
        await add(cache, 1, 1000)

    bench.run(work)


def test_one_that_is_given_up_while_it_waits_for_room_ends_at_once(bench: _Bench) -> None:
    class Stubborn(Users):
        async def release(self) -> bool:
            asked.set()
            return await asyncio.get_running_loop().create_future() or False

    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 900)
        bench.users.busy = {id_of(1)}
        adding = asyncio.create_task(add(cache, 2, 500))
        await asked.wait()
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert cache.used_bytes == 900
        assert [path.name for path in bench.directory.iterdir()] == [id_of(1)]

    asked = asyncio.Event()
    bench.users = Stubborn()
    bench.run(work)


def test_one_that_is_given_up_at_any_moment_is_there_whole_or_not_at_all(bench: _Bench) -> None:
    async def give_up(cache: DiskCache, number: int, turns: int) -> bool:
        adding = asyncio.create_task(add(cache, number, 400))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = adding.cancel()
        with suppress(asyncio.CancelledError):
            await adding
        return cancelled

    async def work(cache: DiskCache) -> None:
        turns = number = 0
        while await give_up(cache, number := number + 1, turns):
            turns += 1 + turns // 10
            async with asyncio.timeout(60):  # who made room may still be going
                while cache.used_bytes != sum(stored.bytes for stored in cache.all()):
                    await asyncio.to_thread(bench.directory.stat)
            there = {path.name for path in bench.directory.iterdir()}
            assert there == {stored.id for stored in cache.all()}
            for stored in cache.all():
                assert files_in(cache.path(stored.id)) == model(int(stored.id, 16), 400)

    bench.run(work)


def test_one_that_has_just_come_is_not_deleted_before_its_user_knows(bench: _Bench) -> None:
    class Eager(Users):
        async def release(self) -> bool:
            await asyncio.sleep(0)  # look again at every turn
            return True

    async def work(cache: DiskCache) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(target: Path, room: Room) -> None:
            begun.set()
            await go_on.wait()
            await asyncio.ensure_future(filling(model(1, 600))(target, room))

        async def first() -> bool:
            stored = await cache.add(id_of(1), "1.tar.gz", info(1, 600), slow)
            return cache.get(stored.id) is not None

        coming = asyncio.create_task(first())
        await begun.wait()
        waiting = asyncio.create_task(add(cache, 2, 600, told=600))
        go_on.set()
        assert await coming
        await waiting
        assert targets(cache) == ["2.tar.gz"]

    bench.users = Eager()
    bench.run(work)


def test_a_model_can_be_removed_and_come_back_at_once(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 600)
        removing = asyncio.create_task(cache.remove(id_of(1)))
        await asyncio.sleep(0)
        assert cache.get(id_of(1)) is None
        await add(cache, 1, 700)
        await removing
        assert files_in(cache.path(id_of(1))) == model(1, 700)
        assert bench.users.went == []  # nobody made room
        await cache.remove(id_of(1))
        await cache.remove(id_of(1))
        assert (cache.all(), cache.used_bytes) == ([], 0)

    bench.run(work)


def test_the_loop_goes_on_while_a_large_model_is_deleted(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        files = {f"{number}/{number}": b"x" for number in range(500)}
        await cache.add(id_of(1), "1.tar.gz", info(1, 1), filling(files))
        removing = asyncio.create_task(cache.remove(id_of(1)))
        turns = 0
        while not removing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 50

    bench.run(work, budget=10_000)


def test_uses_are_known_after_a_restart(bench: _Bench) -> None:
    async def before(cache: DiskCache) -> None:
        for number in (1, 2, 3):
            await add(cache, number, 300)
        cache.touch(id_of(1))
        cache.touch(id_of(7))  # not there: nothing
        used.append(cache.all()[0].last_used)

    async def after(cache: DiskCache) -> None:
        kept = cache.get(id_of(1))
        assert kept is not None
        assert kept.last_used == pytest.approx(used[0], abs=1e-3)
        await add(cache, 4, 600)
        assert targets(cache) == ["1.tar.gz", "4.tar.gz"]

    used: list[float] = []
    bench.run(before)
    bench.run(after)


def test_uses_are_written_now_and_then(bench: _Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(cache: DiskCache) -> None:
        await add(cache, 1, 300)
        entry = bench.directory / id_of(1) / "entry.json"
        before = entry.stat().st_mtime
        cache.touch(id_of(1))
        assert entry.stat().st_mtime == before
        async with asyncio.timeout(60):
            while entry.stat().st_mtime == before:
                await asyncio.to_thread(entry.stat)

    monkeypatch.setattr(disk_cache, "_USES_SECONDS", 0.05)
    bench.run(work)


def test_what_is_over_a_smaller_budget_goes_at_the_start(bench: _Bench) -> None:
    async def before(cache: DiskCache) -> None:
        for number in (1, 2, 3):
            await add(cache, number, 300)

    async def after(cache: DiskCache) -> None:
        assert targets(cache) == ["3.tar.gz"]

    bench.run(before)
    bench.run(after, budget=500)


def test_pinned_models_stay_though_the_budget_is_smaller(bench: _Bench) -> None:
    async def before(cache: DiskCache) -> None:
        for number in (1, 2, 3):
            await add(cache, number, 300)
        bench.users.busy = {id_of(1), id_of(3)}

    async def after(cache: DiskCache) -> None:
        assert targets(cache) == ["1.tar.gz", "3.tar.gz"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(add(cache, 4, 10), 0.1)

    bench.run(before)
    bench.run(after, budget=500)


def test_only_what_is_whole_is_found_and_nothing_of_others_goes(bench: _Bench) -> None:
    async def before(cache: DiskCache) -> None:
        for number in range(1, 8):
            await add(cache, number, 100)

    async def after(cache: DiskCache) -> None:
        assert targets(cache) == ["6.tar.gz", "7.tar.gz"]
        assert cache.used_bytes == 100 + 107
        there = {path.name for path in bench.directory.iterdir()}
        assert there == {id_of(6), id_of(7), "notes.txt", "lost+found"}

    bench.run(before)
    entries = {number: bench.directory / id_of(number) for number in range(1, 9)}
    (entries[1] / "entry.json").unlink()
    (entries[2] / "entry.json").write_bytes(b'{"id": 3}')
    (entries[3] / "model" / "weights.bin").write_bytes(b"short")
    entries[5].rename(bench.directory / id_of(9))
    (entries[4] / "model").rename(entries[4] / "other")
    (entries[7] / "model" / "more.pyc").write_bytes(b"7 bytes")
    entries[8].write_bytes(b"a file")
    (bench.directory / f".incoming-{id_of(1)}-0").mkdir()
    (bench.directory / f".leaving-{id_of(1)}-0").write_bytes(b"")
    (bench.directory / "notes.txt").write_text("mine")
    (bench.directory / "lost+found").mkdir()
    bench.run(after)


def test_names_are_ids_and_nothing_else(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        for wrong in ("", "../up", "A" * 32, "0" * 31, "0" * 32 + "\n"):
            with pytest.raises(ValueError, match="32 hexadecimal"):
                cache.path(wrong)
            with pytest.raises(ValueError, match="32 hexadecimal"):
                await cache.add(wrong, "x", info(1, 1), filling(model(1, 10)))
        assert cache.used_bytes == 0

    bench.run(work)


def test_a_model_is_added_once(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(target: Path, room: Room) -> None:
            begun.set()
            await go_on.wait()
            await asyncio.ensure_future(filling(model(1, 10))(target, room))

        first = asyncio.create_task(cache.add(id_of(1), "1", info(1, 1), slow))
        await begun.wait()
        with pytest.raises(ValueError, match="there already"):
            await add(cache, 1, 10)
        go_on.set()
        await first
        with pytest.raises(ValueError, match="there already"):
            await add(cache, 1, 10)

    bench.run(work)


def test_a_thread_whose_model_nobody_wants_gets_no_room(bench: _Bench) -> None:
    async def work(cache: DiskCache) -> None:
        begun, given_up, ended = threading.Event(), threading.Event(), asyncio.Event()
        failures: list[BaseException] = []

        def extract(room: Room) -> None:
            begun.set()
            given_up.wait(60)
            try:
                room(500)
            except Exception as error:
                failures.append(error)

        async def fill(target: Path, room: Room) -> None:
            extracting: Coroutine[Any, Any, None] = asyncio.to_thread(extract, room)
            task = asyncio.ensure_future(extracting)
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                given_up.set()
                await task
                ended.set()
                raise

        adding = asyncio.create_task(cache.add(id_of(1), "1", info(1, 1), fill))
        await asyncio.to_thread(begun.wait, 60)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert ended.is_set()
        assert [type(error).__name__ for error in failures] == ["CancelledError"]
        assert cache.used_bytes == 0

    bench.run(work)
