"""The models of an instance: versions that follow the store, copies that go, the disk beside."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from endpoint.errors import InternalDependency, ModelError, ModelNotReady, ValidationError
from endpoint.instances import model_files
from endpoint.routing.places import Where
from tests.endpoint.instances.parts import Up, on_instance

KB = 1 << 10


async def use(one: Up, names: str) -> None:
    """One after the other."""
    for name in names:
        assert await one.says(name) == name


class Traffic:
    """Requests for a model, one after the other by each of some users, until it is ended."""

    def __init__(self, one: Up, name: str, users: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self._one, self._name = one, name
        self._going = True
        self._users = [asyncio.create_task(self._user()) for _ in range(users)]

    async def _user(self) -> None:
        while self._going:
            self.answers[await self._one.says(self._name)] += 1

    async def says(self, answer: str) -> None:
        """Return when the model has said that."""
        await self.until(lambda: bool(self.answers[answer]))

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return when something is so; fails with the first request that does."""
        waiting = asyncio.create_task(self._one.until(seen))
        await asyncio.wait({waiting, *self._users}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await self.end()
        await waiting

    async def end(self) -> None:
        """Every request was answered."""
        self._going = False
        await asyncio.gather(*self._users)


# --- changes of objects -------------------------------------------------------------------------


def test_a_changed_object_replaces_its_model_and_no_request_is_lost(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "1")
        traffic = Traffic(one, "a")
        for version in "1234":
            one.put("a", version)
            await traffic.says(version)
        await traffic.end()
        await one.until(lambda: one.on_disk() == ["a"])
        assert one.loaded() == ["a"]
        assert one.told("object_changed") == ["a"] * 3

    on_instance(test, tmp_path, object_check_seconds=0.05)


def test_the_first_request_after_a_while_gets_what_the_object_is_now(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "old")
        assert await one.says("a") == "old"
        one.put("a", "new")
        assert await one.says("a") == "new"
        one.delete("a")
        assert isinstance(await one.fails("a"), ValidationError)

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_the_old_version_answers_until_the_new_one_is_loaded(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "old")
        assert await one.says("a") == "old"
        one.stub.rule("load", "hang")
        one.put("a", "new")
        traffic = Traffic(one, "a")
        await one.saw("load", 2)
        await traffic.says("old")
        assert set(traffic.answers) == {"old"}
        one.stub.release()
        await traffic.says("new")
        await traffic.end()

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_a_request_that_runs_on_the_old_version_is_answered_by_it(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "old")
        assert await one.says("a") == "old"
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        one.put("a", "new")
        traffic = Traffic(one, "a")
        await traffic.says("new")
        await traffic.end()
        one.stub.release()
        assert await running == "old"
        await one.until(lambda: len(one.stub.loaded()) == 1)

    on_instance(test, tmp_path, object_check_seconds=0.0)


@pytest.mark.parametrize("bad", ["archive", "load"])
def test_a_new_version_that_is_bad_leaves_the_old_one_in_its_place(
    tmp_path: Path, bad: str
) -> None:
    async def test(one: Up) -> None:
        one.put("a", "old")
        assert await one.says("a") == "old"
        if bad == "archive":
            one.put_bytes("a", b"no archive")
        else:
            one.put("a", "new")
            one.stub.rule("load", "answer", status=500)
        traffic = Traffic(one, "a")
        await traffic.until(lambda: one.told("load_failed") == ["a"])
        looked = len(one.store.heads)
        await traffic.until(lambda: len(one.store.heads) >= looked + 4)
        await traffic.end()
        assert one.told("load_failed") == ["a"]  # it is not tried again for a while
        assert set(traffic.answers) == {"old"}
        assert await one.says("a") == "old"

    on_instance(test, tmp_path, object_check_seconds=0.05)


def test_with_keep_a_model_stays_as_it_was_first_seen(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "old")
        assert await one.says("a") == "old"
        one.put("a", "new")
        assert await one.says("a") == "old"
        one.models.withdraw("a", "in a test")
        await one.until(lambda: one.loaded() == [])
        one.delete("a")
        assert await one.says("a") == "old"
        assert len(one.store.heads) == 1

    on_instance(test, tmp_path, object_changes="keep", object_check_seconds=0.0)


def test_a_deleted_object_is_a_clear_error_and_its_model_is_gone(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.delete("a")
        error = await one.fails("a")
        assert isinstance(error, ValidationError)
        assert "ensure that there is an object" in error.message
        assert one.told("object_gone") == ["a"]
        await one.until(lambda: one.models.residents() == [])
        assert (one.loaded(), one.on_disk()) == ([], [])

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_an_object_that_comes_back_is_served_again(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a", "1")
        assert await one.says("a") == "1"
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        one.delete("a")
        await one.says("a")
        await one.until(lambda: one.told("object_gone") == ["a"])
        one.put("a", "2")
        assert await one.says("a") == "2"
        one.stub.release()
        assert await running == "1"
        await one.until(lambda: len(one.stub.loaded()) == 1)
        assert await one.says("a") == "2"

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_the_same_object_that_comes_back_is_not_unloaded_with_its_predecessor(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        (one.folder / "a").rename(one.folder / "b")
        await use(one, "a")
        await one.until(lambda: one.told("object_gone") == ["a"])
        (one.folder / "b").rename(one.folder / "a")
        await use(one, "a")
        one.stub.release()
        assert await running == "a"
        await use(one, "aaa")
        assert one.count("unload") == 0

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_a_store_that_is_not_there_for_a_while_takes_no_model_away(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.folder.rename(tmp_path / "away")
        (tmp_path / "store").symlink_to(tmp_path / "store")  # neither there nor missing
        await use(one, "aaa")
        (tmp_path / "store").unlink()
        (tmp_path / "away").rename(one.folder)
        await use(one, "a")
        assert one.count("load") == 1

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_an_object_that_is_overwritten_during_its_download_is_downloaded_anew(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        one.put("a", "0")
        versions = ["1", "2"]

        def overwrite() -> None:
            if versions:
                one.put("a", versions.pop(0))

        one.store.before_download = overwrite
        assert await one.says("a") == "2"
        assert len(one.store.downloads) == 3
        assert one.told("load_failed") == []

    on_instance(test, tmp_path)


def test_an_object_that_is_overwritten_again_and_again_is_worth_another_try(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.store.before_download = lambda: one.put("a")
        error = await one.fails("a")
        assert isinstance(error, InternalDependency)
        assert "changed" in error.message
        one.store.before_download = lambda: None
        await use(one, "a")

    on_instance(test, tmp_path)


def test_a_store_that_does_not_answer_keeps_no_model_on_the_disk_from_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "_PATIENCE_SECONDS", 60.0)  # a slow machine is not away

    async def test(one: Up) -> None:
        for name in "abc":
            one.put(name)
        await use(one, "abc")
        for name in "abc":
            one.models.withdraw(name, "in a test")
        await one.until(lambda: one.loaded() == [])
        heads = len(one.store.heads)
        monkeypatch.setattr(model_files, "_PATIENCE_SECONDS", 0.2)
        one.store.answers.clear()
        await use(one, "abc")
        assert len(one.store.heads) == heads + 1  # for the others it was not asked again
        one.store.answers.set()

    on_instance(test, tmp_path, object_check_seconds=0.0)


# --- ModelCacheSetting=Disabled -----------------------------------------------------------------


def test_without_a_cache_a_model_leaves_memory_and_disk_after_each_use(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        for uses in (1, 2):
            await use(one, "a")
            await one.until(lambda: one.loaded() == one.on_disk() == [])
            assert one.told("unload") == ["a"] * uses
        assert len(one.store.downloads) == 2

    on_instance(test, tmp_path, keep=False)


def test_without_a_cache_many_at_once_are_served_all_the_same(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        names = "abcdef"
        for name in names:
            one.put(name)

        async def user(number: int) -> None:
            for turn in range(5):
                await use(one, names[(number + turn) % len(names)])

        await asyncio.gather(*(user(number) for number in range(20)))
        await one.until(lambda: not one.models.residents())
        assert one.loaded() == one.on_disk() == []
        assert one.models.summary(disk=False)["disk"]["used"] == 0

    on_instance(test, tmp_path, keep=False)


def test_without_a_cache_a_model_whose_client_gave_up_does_not_stay(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "hang")
        await one.fails("a", seconds=0.2)
        one.stub.release()
        await one.until(lambda: one.told("delete") == ["a"])
        assert one.loaded() == []

    on_instance(test, tmp_path, keep=False, invoke_timeout_seconds=0.2)


def test_without_a_cache_a_model_waits_for_the_client_that_was_told_to_come_again(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "hang")
        assert isinstance(await one.fails("a", seconds=0.2), ModelNotReady)
        one.stub.release()
        await one.until(lambda: one.states() == {"a": "loaded"})
        await use(one, "a")
        await one.until(lambda: one.told("delete") == ["a"])
        assert (one.count("load"), len(one.store.downloads)) == (1, 1)

    on_instance(test, tmp_path, keep=False)


# --- lists that lie -----------------------------------------------------------------------------


async def lists(one: Up, more: int = 4) -> None:
    """Return once the container has been asked for so many lists more."""
    await one.saw("list", one.count("list") + more)


def test_a_model_that_is_not_listed_is_loaded_again_when_it_is_wanted(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.forget(one.stub.loaded()[0])
        await one.until(lambda: one.states() == {"a": "on_disk"})
        await use(one, "a")
        assert one.count("invoke") == 2  # no request met a 404

    on_instance(test, tmp_path, probe_interval_seconds=0.02)


def test_a_list_that_hides_models_takes_no_memory_from_the_others(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "abcd":
            one.put(name)
        await use(one, "ab")
        one.stub.set(hidden=one.stub.loaded())
        await lists(one)
        await use(one, "cdab")

    on_instance(test, tmp_path, stub={"room": 2}, probe_interval_seconds=0.02)


def test_a_list_that_hides_a_model_disturbs_none_of_its_requests(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.set(hidden=one.stub.loaded())
        traffic = Traffic(one, "a")
        await lists(one, 10)
        await traffic.end()

    on_instance(test, tmp_path, probe_interval_seconds=0.02)


def test_models_that_are_listed_and_not_there_do_no_harm(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.put("b")
        await use(one, "a")
        one.stub.set(phantoms=["0" * 32, "/../x", *one.stub.loaded()])
        one.stub.forget(one.stub.loaded()[0])
        await lists(one)
        await use(one, "ba")

    on_instance(test, tmp_path, probe_interval_seconds=0.02)


# --- the disk -----------------------------------------------------------------------------------


def test_the_least_recently_used_that_is_not_in_memory_goes_from_a_full_disk(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        for name in "abcd":
            one.put(name, padding=100 * KB)
        await use(one, "abac")  # b is not in memory any more
        await use(one, "d")
        await one.until(lambda: len(one.on_disk()) == 3)
        assert one.on_disk() == ["a", "c", "d"]
        assert one.told("delete") == ["b"]

    on_instance(test, tmp_path, stub={"room": 2}, disk_bytes=350 * KB)


def test_when_all_on_a_full_disk_are_in_memory_one_is_unloaded_for_it(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "abc":
            one.put(name, padding=100 * KB)
        await use(one, "abac")
        assert one.loaded() == ["a", "c"]
        assert one.on_disk() == ["a", "c"]
        assert one.models.summary(disk=False)["disk"]["used"] <= 250 * KB

    on_instance(test, tmp_path, disk_bytes=250 * KB)


def test_models_that_run_are_not_deleted_for_a_full_disk(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "ab":
            one.put(name, padding=100 * KB)
        await use(one, "a")
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        waiting = one.begin("b")
        await asyncio.sleep(0.2)
        assert one.on_disk() == ["a"]
        assert not waiting.done()
        one.stub.release()
        assert await running == "a"
        assert await waiting == "b"

    on_instance(test, tmp_path, disk_bytes=150 * KB)


def test_many_that_are_wanted_at_once_take_turns_on_a_small_disk(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        names = "abcde"
        for name in names:
            one.put(name, padding=100 * KB)
        requests = [one.begin(name) for name in names]
        assert await asyncio.gather(*requests) == list(names)
        assert one.models.summary(disk=False)["disk"]["used"] <= 250 * KB

    on_instance(test, tmp_path, disk_bytes=250 * KB)


def test_a_model_that_is_larger_than_the_disk_may_be_is_refused(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.put("b", padding=1000 * KB)
        error = await one.fails("b")
        assert isinstance(error, ModelError)
        assert error.original_status == 507
        assert "No space" in error.message
        assert "MODELYARD_UP_DISK_BYTES" in error.message
        await use(one, "a")

    on_instance(test, tmp_path, disk_bytes=500 * KB)


# --- copies that come and go --------------------------------------------------------------------


def test_a_model_is_warmed_before_anybody_asks_for_it(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        assert one.models.where("a") is Where.ABSENT
        one.models.warm("a")
        assert one.models.where("a") is Where.LOADING
        one.models.warm("a")
        await one.until(lambda: one.models.where("a") is Where.LOADED)
        await use(one, "a")
        assert one.count("load") == 1

    on_instance(test, tmp_path)


def test_warming_what_cannot_be_loaded_leaves_nothing(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.models.warm("missing")
        await one.until(lambda: not one.models.residents())
        assert one.told("load_failed") == ["missing"]

    on_instance(test, tmp_path)


def test_a_copy_is_withdrawn_when_its_requests_are_done_and_stays_on_the_disk(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        one.models.withdraw("a", "in a test")
        assert one.models.where("a") is Where.ON_DISK
        assert one.loaded() == ["a"]
        one.stub.release()
        assert await running == "a"
        await one.until(lambda: one.told("copy_withdrawn") == ["a"])
        assert (one.loaded(), one.on_disk()) == ([], ["a"])

    on_instance(test, tmp_path)


def test_a_withdrawn_copy_that_is_wanted_again_in_time_stays(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.rule("invoke", "hang", times=1)
        running = one.begin("a")
        await one.saw("invoke", 2)
        one.models.withdraw("a", "in a test")
        one.models.warm("a")
        one.stub.release()
        assert await running == "a"
        await use(one, "a")
        assert one.count("unload") == 0

    on_instance(test, tmp_path)


def test_a_copy_whose_unload_broke_off_gets_requests_again(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await use(one, "a")
        one.stub.rule("unload", "break")
        one.models.withdraw("a", "in a test")
        await one.saw("unload")
        await one.until(lambda: one.models.where("a") is Where.LOADED)
        one.stub.release()
        await use(one, "a")
        one.models.withdraw("a", "in a test")
        await one.until(lambda: one.told("copy_withdrawn") == ["a"])

    on_instance(test, tmp_path)


def test_withdrawing_under_traffic_loses_no_request(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        traffic = Traffic(one, "a")
        await traffic.says("a")
        for _ in range(10):
            one.models.withdraw("a", "in a test")
            await use(one, "a")
        await traffic.end()

    on_instance(test, tmp_path)
