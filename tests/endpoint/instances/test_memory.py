"""A container's memory: who is unloaded for whom, and what is done when nobody can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from endpoint.instances import memory
from tests.endpoint.instances.parts import Up, on_instance


async def use(one: Up, names: Iterable[str]) -> None:
    """One after the other."""
    for name in names:
        if not (one.folder / name).exists():
            one.put(name)
        assert await one.says(name) == name


def test_the_least_recently_used_is_unloaded_when_there_is_no_room(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abac")
        assert one.loaded() == ["a", "c"]
        assert one.told("unload") == ["b"]
        await use(one, "b")
        assert one.loaded() == ["b", "c"]
        assert one.states() == {"a": "on_disk", "b": "loaded", "c": "loaded"}
        assert one.store.downloads == [f"file://{one.folder}/{name}" for name in "abc"]

    on_instance(test, tmp_path, stub={"room": 2})


def test_as_many_are_unloaded_as_it_takes(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abcd")
        one.stub.set(room=2)
        await use(one, "e")
        assert one.loaded() == ["d", "e"]

    on_instance(test, tmp_path, stub={"room": 4})


def test_a_model_that_runs_is_not_unloaded_and_one_that_does_not_is(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.stub.rule("invoke", "hang", times=1)
        request = one.begin("a")
        await one.saw("invoke", 3)
        await use(one, "bc")  # b was used after a
        assert one.loaded() == ["a", "c"]
        one.stub.release()
        assert await request == "a"

    on_instance(test, tmp_path, stub={"room": 2})


def test_a_load_waits_until_one_of_the_busy_ones_is_not(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("invoke", "hang", times=1)
        busy = one.begin("a")
        await one.saw("invoke", 2)
        one.put("b")
        waiting = one.begin("b")
        await one.saw("load", 2)
        one.stub.release()
        assert (await busy, await waiting) == ("a", "b")
        assert one.loaded() == ["b"]

    on_instance(test, tmp_path, stub={"room": 1})


def test_a_model_that_is_never_unused_gives_way_after_a_while_and_loses_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_SECONDS", 0.1)

    async def test(one: Up) -> None:
        await use(one, "a")
        one.put("b")
        stop = asyncio.Event()

        async def hold() -> int:
            done = 0
            while not stop.is_set():
                assert await one.says("a") == "a"
                done += 1
            return done

        holders = [asyncio.create_task(hold()) for _ in range(8)]
        for _ in range(3):
            assert await one.says("b") == "b"
        stop.set()
        assert all(await asyncio.gather(*holders))

    on_instance(test, tmp_path, stub={"room": 1})


@pytest.mark.parametrize("keep", [True, False])
def test_more_wanted_models_than_fit_all_get_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_SECONDS", 0.1)
    names = "abcdefghij"
    rounds = 6

    async def test(one: Up) -> None:
        for name in names:
            one.put(name)

        async def user(number: int) -> None:
            for turn in range(rounds):
                name = names[(number + turn * 7) % len(names)]
                assert await one.says(name, seconds=30) == name

        await asyncio.gather(*(user(number) for number in range(30)))
        assert len(one.loaded()) <= 2
        assert one.told("load_failed") == []

    on_instance(test, tmp_path, stub={"room": 2}, keep=keep)


def test_with_nobody_to_unload_it_is_a_model_error_507_with_the_containers_words(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        error = await one.model_error("a")
        assert error.original_status == 507
        assert "no memory for" in error.original
        assert "no unused model to unload" in error.message

    on_instance(test, tmp_path, stub={"room": 0})


def test_a_model_that_does_not_fit_alone_is_not_tried_again_until_its_object_changes(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.put("big", "1")
        one.stub.rule("load", "answer", status=507)
        assert "larger instance" in (await one.model_error("big")).message
        assert one.loaded() == []
        one.stub.release()
        await use(one, "ab")
        loads = one.count("load")
        for _ in range(3):
            assert (await one.model_error("big")).original_status == 507
        assert (one.count("load"), one.loaded()) == (loads, ["a", "b"])
        one.put("big", "2")
        assert await one.says("big") == "2"

    on_instance(test, tmp_path, failed_load_seconds=0.01)


def test_a_model_that_was_refused_beside_others_is_tried_again_soon(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.put("b")
        one.stub.rule("unload", "answer", status=500, times=1)
        assert (await one.model_error("b")).original_status == 507
        assert await one.says("b") == "b"

    on_instance(test, tmp_path, stub={"room": 1}, failed_load_seconds=0.0)


def test_all_who_wait_in_vain_are_told_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "abcd":
            one.put(name)
        errors = await asyncio.gather(*(one.model_error(name) for name in "abcd"))
        assert {error.original_status for error in errors} == {507}

    on_instance(test, tmp_path, stub={"room": 0})


def test_room_that_a_failed_load_leaves_goes_to_who_waits_for_it(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.put("b")
        one.stub.rule("load", "hang", times=1)
        failing = asyncio.create_task(one.model_error("a"))
        await one.saw("load")
        one.stub.rule("load", "answer", status=507, times=1)
        waiting = one.begin("b")
        assert (await failing).original_status == 0
        assert await waiting == "b"

    on_instance(test, tmp_path, load_timeout_seconds=3.0)


def test_one_that_the_container_does_not_let_go_is_passed_over(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.stub.rule("unload", "answer", status=500, text="no", times=1)
        await use(one, "c")
        assert one.loaded() == ["a", "c"]
        assert await one.says("a") == "a"
        assert one.count("load") == 4  # one of them was refused

    on_instance(test, tmp_path, stub={"room": 2})


def test_an_unload_that_hangs_is_given_up(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.stub.rule("unload", "hang", times=1)
        await use(one, "c")
        assert one.loaded() == ["a", "c"]

    on_instance(test, tmp_path, stub={"room": 2}, unload_timeout_seconds=2.0)


def test_a_model_that_is_wanted_while_it_goes_comes_back(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("unload", "hang")
        one.models.withdraw("a", "in a test")
        await one.saw("unload")
        request = one.begin("a")
        one.stub.release()
        assert await request == "a"
        assert one.count("load") == 2

    on_instance(test, tmp_path)


def test_a_load_that_is_given_up_leaves_its_victim_as_it_should_be(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.put("b")
        one.stub.rule("unload", "hang")
        late = asyncio.create_task(one.model_error("b"))
        await one.saw("unload")
        wanted = one.begin("a")
        assert (await late).original_status == 0
        one.stub.release()
        assert await wanted == "a"
        assert one.states() == {"a": "loaded", "b": "on_disk"}

    on_instance(test, tmp_path, stub={"room": 1}, load_timeout_seconds=3.0)


def test_models_are_unloaded_when_memory_is_over_the_threshold(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abc")  # the container itself takes more than that
        assert one.loaded() == ["c"]
        assert one.told("unload") == ["a", "b"]

    on_instance(test, tmp_path, memory_threshold_percent=1, instance_memory_bytes=200 << 20)


def test_models_stay_while_memory_is_below_the_threshold(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abc")
        assert one.loaded() == ["a", "b", "c"]

    on_instance(test, tmp_path, memory_threshold_percent=100)


def test_a_409_in_answer_to_a_load_means_that_it_is_loaded(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "cut", times=1)  # loaded, but the answer gets lost
        with pytest.raises(Exception, match="broke off"):
            await one.says("a")
        assert await one.says("a") == "a"
        assert one.count("load") == 2

    on_instance(test, tmp_path)


def test_a_name_that_a_container_kept_is_dropped_with_the_models_directory(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        for name in "ab":
            one.put(name, padding=100_000)
            await one.model_error(name)
        await one.saw("unload")
        assert one.targets()[one.stub.seen("unload")[0].model] == "a"

    on_instance(
        test,
        tmp_path,
        stub={"room": 0, "keeps_refused": True},
        disk_bytes=150_000,
        probe_interval_seconds=60.0,
    )


def test_only_models_in_memory_or_wanted_are_held_in_mind(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for number in range(40):
            await use(one, [f"m{number}"])
        assert len(one.models.residents()) == 2
        assert one.models.loaded_bytes == len("m38" + "m39")
        for number in range(40):
            await one.fails(f"missing-{number}")
        assert len(one.models.residents()) == 2

    on_instance(test, tmp_path, stub={"room": 2})


def test_without_a_cache_nothing_is_held_in_mind(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abcdef")
        await one.until(lambda: not one.models.residents())
        assert one.on_disk() == one.loaded() == []

    on_instance(test, tmp_path, keep=False)
