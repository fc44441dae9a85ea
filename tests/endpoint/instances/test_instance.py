"""An instance as requests see it: models come when they are wanted, and what fails is explained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from endpoint.errors import ModelError, ModelNotReady, ValidationError
from endpoint.fleets.fleet import Record as Handle
from endpoint.instances.container_client import ContainerError, ContainerLost
from tests.endpoint.instances.parts import Up, failure, on_instance, up


def test_a_model_is_downloaded_and_loaded_when_it_is_wanted_and_then_stays(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a b.tar.gz", "hello")
        assert [await one.says("a b.tar.gz") for _ in range(3)] == ["hello"] * 3
        assert (one.count("load"), one.count("invoke")) == (1, 3)
        assert one.told("download") == one.told("load") == ["a b.tar.gz"]
        assert one.states() == {"a b.tar.gz": "loaded"}
        assert len(one.store.heads) == 1

    on_instance(test, tmp_path)


def test_all_who_wait_at_once_share_one_download_and_one_load(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.store.open.clear()
        requests = [one.begin("a") for _ in range(50)]
        await one.store.began.wait()
        one.store.open.set()
        assert await asyncio.gather(*requests) == ["a"] * 50
        assert (len(one.store.downloads), one.count("load")) == (1, 1)

    on_instance(test, tmp_path)


def test_a_load_goes_on_after_its_client_has_given_up(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "hang")
        error = await one.fails("a", seconds=0.2)
        assert isinstance(error, ModelNotReady)
        assert "goes on" in error.message
        one.stub.release()
        assert await one.says("a") == "a"
        assert one.count("load") == 1

    on_instance(test, tmp_path)


def test_a_client_that_hangs_up_takes_nothing_from_the_others(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "hang")
        impatient, patient = one.begin("a"), one.begin("a")
        await one.saw("load")
        impatient.cancel()
        await asyncio.wait({impatient})
        one.stub.release()
        assert await patient == "a"

    on_instance(test, tmp_path)


def test_a_failed_load_is_told_in_the_containers_words(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "answer", status=500, text="no module named torch")
        error = await one.model_error("a")
        assert (error.original_status, error.original) == (500, "no module named torch")
        assert 'Received server error (500) from primary with message "no mod' in error.message
        assert one.told("load_failed") == ["a"]
        assert one.states() == {"a": "on_disk"}

    on_instance(test, tmp_path)


def test_a_failed_load_is_remembered_for_a_while(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "answer", status=400, text="broken")
        errors = [await one.model_error("a") for _ in range(5)]
        assert {error.original for error in errors} == {"broken"}
        assert one.count("load") == 1

    on_instance(test, tmp_path)


def test_a_failed_load_is_tried_again_after_that_while(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "answer", status=400, times=1)
        await one.model_error("a")
        assert await one.says("a") == "a"

    on_instance(test, tmp_path, failed_load_seconds=0.0)


@pytest.mark.parametrize("changes", ["follow", "keep"])
def test_an_object_that_failed_and_was_replaced_is_tried_at_once(
    tmp_path: Path, changes: str
) -> None:
    async def test(one: Up) -> None:
        one.put("a", "bad")
        one.stub.rule("load", "answer", status=400, times=1)
        await one.model_error("a")
        one.put("a", "good")
        assert await one.says("a") == "good"

    on_instance(test, tmp_path, object_changes=changes)


def test_what_is_no_archive_is_refused_until_it_is_replaced(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put_bytes("a", b"this is no archive at all")
        for _ in range(3):
            error = await one.fails("a")
            assert isinstance(error, ValidationError)
            assert "a valid tar.gz archive" in error.message
        assert len(one.store.downloads) == 1
        one.put("a")
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_a_missing_object_is_usable_the_moment_it_is_there(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for _ in range(2):
            error = await one.fails("a")
            assert isinstance(error, ValidationError)
            assert "Failed to download model data" in error.message
        one.put("a")
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_a_store_that_fails_once_is_asked_again_at_once(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.store.open.clear()
        request = asyncio.create_task(one.invoke("a"))
        await one.store.began.wait()
        one.delete("a")  # while it is downloaded
        one.store.open.set()
        await failure(request)
        one.put("a")
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_remembered_failures_keep_no_requests_alive(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "answer", status=400)
        for _ in range(50):
            await one.model_error("a")
        error = await one.model_error("a")
        depth, trace = 0, error.__traceback__
        while trace is not None:
            depth, trace = depth + 1, trace.tb_next
        assert depth < 40

    on_instance(test, tmp_path)


@pytest.mark.parametrize("shows", ["contract", "paged", "tensorflow", "triton"])
def test_lists_of_every_shape_are_understood(tmp_path: Path, shows: str) -> None:
    async def test(one: Up) -> None:
        for name in "abc":
            one.put(name)
            await one.says(name)
        await one.saw("list", one.count("list") + (12 if shows == "paged" else 5))
        assert [await one.says(name) for name in "abc"] == ["a", "b", "c"]
        assert one.count("load") == 3

    on_instance(test, tmp_path, stub={"shows": shows}, probe_interval_seconds=0.02)


def test_a_container_that_answers_garbage_is_told_as_a_model_error(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await one.says("a")
        one.stub.rule("invoke", "garbage", times=1)
        error = await one.model_error("a")
        assert "unusable answer" in error.message
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_garbage_in_answer_to_a_load_is_told_as_a_model_error(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "garbage", times=1)
        assert "unusable answer" in (await one.model_error("a")).message
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_is_too_large_is_refused(tmp_path: Path, chunked: bool) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await one.says("a")
        one.stub.rule("invoke", "large", bytes=200_000, chunked=chunked, times=1)
        error = await one.model_error("a")
        assert "may have 100000" in error.message
        assert error.original_status == 200
        assert await one.says("a") == "a"

    on_instance(test, tmp_path, max_body_bytes=100_000)


def test_a_container_that_hangs_on_an_invoke_is_a_timeout_for_that_request(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "ab":
            one.put(name)
            await one.says(name)
        one.stub.rule("invoke", "hang", times=1)
        hanging = asyncio.create_task(one.model_error("a", seconds=3.0))
        await one.saw("invoke", 3)
        assert await one.says("b") == "b"
        error = await hanging
        assert error.original_status == 0
        assert "timed out" in error.message

    on_instance(test, tmp_path)


def test_a_load_that_hangs_ends_with_an_error_while_others_are_served(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.put("b")
        one.stub.rule("load", "hang", times=1)
        hanging = asyncio.create_task(one.model_error("a"))
        await one.saw("load")
        assert await one.says("b") == "b"
        error = await hanging
        assert error.original_status == 0
        assert "was not ready after 3 seconds" in error.message
        await one.saw("unload")  # it may still be at it

    on_instance(test, tmp_path, load_timeout_seconds=3.0)


def test_what_a_container_loads_too_late_does_not_stay_in_its_memory(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "hang")
        await one.model_error("a")
        await one.saw("unload")  # too early: the container does not have it yet
        one.stub.release()
        await one.until(lambda: one.stub.loaded() == [] and one.count("unload") >= 2)

    on_instance(test, tmp_path, load_timeout_seconds=2.0, probe_interval_seconds=0.05)


def test_a_container_that_dies_in_a_load_is_lost_to_all_who_wait(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        one.stub.rule("load", "die")
        requests = [asyncio.create_task(one.invoke("a")) for _ in range(5)]
        errors = [await failure(request) for request in requests]
        assert all(isinstance(error, ContainerError) for error in errors)
        assert await one.ended == "exited with code 1"

    on_instance(test, tmp_path)


def test_a_container_that_dies_in_an_answer_is_lost_to_that_request(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await one.says("a")
        one.stub.rule("invoke", "die")
        assert isinstance(await failure(one.invoke("a")), ContainerLost)
        await one.ended

    on_instance(test, tmp_path)


def test_a_container_that_dies_in_an_unload_is_no_lack_of_memory(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "ab":
            one.put(name)
        await one.says("a")
        one.stub.rule("unload", "die")
        assert isinstance(await failure(one.invoke("b")), ContainerError)

    on_instance(test, tmp_path, stub={"room": 1})


def test_models_of_an_earlier_life_are_taken_over(tmp_path: Path) -> None:
    async def first() -> Handle:
        async with up(tmp_path, leave=True) as one:
            for name in "ab":
                one.put(name)
                await one.says(name)
            one.stub.rule("invoke", "answer", status=418, text="a rule of the first life")
            return one.handle

    handle = asyncio.run(first())

    async def test(one: Up) -> None:
        one.stub.release()
        assert one.states() == {"a": "loaded", "b": "loaded"}
        assert [await one.says(name) for name in "ab"] == ["a", "b"]
        assert one.count("load") == 2
        assert one.store.downloads == []

    on_instance(test, tmp_path, handle=handle)


def test_what_nobody_knows_in_a_container_taken_over_is_unloaded(tmp_path: Path) -> None:
    async def first() -> Handle:
        async with up(tmp_path, leave=True) as one:
            one.put("a")
            await one.says("a")
            return one.handle

    handle = asyncio.run(first())
    for entry in (tmp_path / "instance" / "models").glob("*/entry.json"):
        entry.unlink()  # so that the disk does not know it

    async def test(one: Up) -> None:
        await one.until(lambda: one.stub.loaded() == [])
        assert await one.says("a") == "a"

    on_instance(test, tmp_path, handle=handle)


def test_a_new_container_finds_the_models_of_the_last_one_on_its_disk(tmp_path: Path) -> None:
    async def first() -> None:
        async with up(tmp_path) as one:
            one.put("a")
            await one.says("a")

    asyncio.run(first())

    async def test(one: Up) -> None:
        assert one.states() == {"a": "on_disk"}
        assert await one.says("a") == "a"
        assert one.store.downloads == []

    on_instance(test, tmp_path)


def test_close_in_the_midst_of_everything_leaves_nothing(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        for name in "abcdef":
            one.put(name)
        await asyncio.gather(one.says("a"), one.says("b"))
        one.stub.rule("invoke", "hang")
        running = [asyncio.create_task(one.invoke("a"))]
        await one.saw("invoke", 3)
        one.stub.rule("unload", "hang")
        one.stub.rule("load", "hang")
        running += [asyncio.create_task(one.invoke(name)) for name in "cd"]
        await one.saw("load", 4)
        one.models.withdraw("b", "in a test")
        await one.saw("unload")
        one.store.began.clear()
        one.store.open.clear()
        running += [asyncio.create_task(one.invoke(name)) for name in "bef"]
        await one.store.began.wait()
        one.ended.cancel()
        await one.instance.stop(at_once=True)
        for request in running:
            assert isinstance(await failure(request), ContainerError)

    on_instance(test, tmp_path, object_check_seconds=0.0)


def test_a_request_that_ends_after_close_starts_nothing_anew(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        one.put("a")
        await one.says("a")
        one.stub.rule("invoke", "hang", times=1)
        request = asyncio.create_task(one.invoke("a"))
        await one.saw("invoke", 2)
        one.ended.cancel()
        await one.instance.let_go()
        loads = one.count("load")
        one.stub.forget(one.stub.loaded()[0])
        one.stub.release()
        error = await failure(request)  # the container's 404 cannot be healed any more
        assert isinstance(error, ModelError | ContainerError)
        assert one.count("load") == loads
        await asyncio.to_thread(one.stub.exit, 0)

    on_instance(test, tmp_path, keep=False)
