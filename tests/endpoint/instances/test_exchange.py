"""What is done about a container's 404 and 507 in answer to a request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from endpoint.instances import memory
from endpoint.instances.container_client import ContainerLost
from tests.endpoint.instances.parts import Up, failure, on_instance


async def use(one: Up, names: str) -> None:
    """One after the other."""
    for name in names:
        one.put(name)
        assert await one.says(name) == name


def id_of(one: Up, name: str) -> str:
    return next(model for model, target in one.targets().items() if target == name)


def test_a_model_that_the_container_forgot_is_loaded_again_and_the_request_answered(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.forget(id_of(one, "a"))
        assert await one.says("a") == "a"
        assert (one.count("load"), one.count("invoke")) == (2, 3)

    on_instance(test, tmp_path)


def test_many_who_find_it_forgotten_have_it_loaded_once(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.forget(id_of(one, "a"))
        requests = [one.begin("a") for _ in range(30)]
        assert await asyncio.gather(*requests) == ["a"] * 30
        assert one.count("load") == 2

    on_instance(test, tmp_path)


def test_who_finds_a_forgotten_model_loaded_for_another_is_answered_too(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.forget(id_of(one, "a"))
        one.stub.rule("get", "hang", times=1)
        slow = one.begin("a")
        await one.saw("get")
        one.stub.rule("load", "late")
        quick = one.begin("a")
        await one.saw("load", 2)
        await one.until(lambda: one.loaded() == ["a"])  # of which the endpoint does not know yet
        one.stub.release("get")
        assert not (await asyncio.wait({slow}, timeout=0.1))[0]
        one.stub.release("load")
        assert [await slow, await quick] == ["a", "a"]
        assert one.count("load") == 2

    on_instance(test, tmp_path)


@pytest.mark.parametrize("how", ["break", "cut"])
def test_who_finds_a_forgotten_model_there_after_a_load_that_broke_off_is_answered(
    tmp_path: Path, how: str
) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.forget(id_of(one, "a"))
        one.stub.rule("get", "hang", times=1)
        slow = one.begin("a")
        await one.saw("get")
        one.stub.rule("load", how, times=1)
        assert isinstance(await failure(one.invoke("a")), ContainerLost)
        one.stub.release("get")  # so it is told that the container has it
        assert await slow == "a"
        assert one.loaded() == ["a"]

    on_instance(test, tmp_path)


def test_a_models_own_404_is_handed_on(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.stub.rule("invoke", "answer", model=id_of(one, "a"), status=404, text="no such row")
        errors = await asyncio.gather(*(one.model_error("a") for _ in range(10)))
        assert {(error.original_status, error.original) for error in errors} == {
            (404, "no such row")
        }
        assert one.loaded() == ["a", "b"]
        assert await one.says("b") == "b"
        assert one.count("load") == 2  # the container was asked, and nobody had to wait for a load

    on_instance(test, tmp_path)


@pytest.mark.parametrize("do", ["answer", "garbage", "break"])
def test_a_container_that_cannot_describe_a_model_is_told_to_load_it(
    tmp_path: Path, do: str
) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("get", do, status=500)
        one.stub.rule("invoke", "answer", status=404, text="no such row", times=1)
        assert (await one.model_error("a")).original == "no such row"
        one.stub.forget(id_of(one, "a"))
        assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_a_container_that_forgets_again_and_again_is_told_of_after_one_try(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("invoke", "forget")
        assert (await one.model_error("a")).original_status == 404
        assert (one.count("load"), one.count("invoke")) == (2, 3)

    on_instance(test, tmp_path)


def test_a_507_to_a_request_unloads_others_and_the_request_is_tried_again(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "abc")
        one.stub.rule("invoke", "answer", model=id_of(one, "c"), status=507, times=2)
        assert await one.says("c") == "c"
        assert one.loaded() == ["c"]
        assert one.told("unload") == ["a", "b"]

    on_instance(test, tmp_path)


def test_a_507_to_a_request_with_nobody_to_unload_is_handed_on(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "ab")
        one.stub.rule("invoke", "answer", model=id_of(one, "a"), status=507, text="CUDA OOM")
        error = await one.model_error("a")
        assert (error.original_status, error.original) == (507, "CUDA OOM")
        assert one.loaded() == ["a"]

    on_instance(test, tmp_path)


def test_a_model_that_always_answers_507_unloads_two_others_for_a_request_at_most(
    tmp_path: Path,
) -> None:
    async def test(one: Up) -> None:
        await use(one, "abcde")
        one.stub.rule("invoke", "answer", model=id_of(one, "e"), status=507)
        assert (await one.model_error("e")).original_status == 507
        assert one.loaded() == ["c", "d", "e"]

    on_instance(test, tmp_path)


def test_one_that_gave_way_while_it_made_room_is_loaded_before_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_SECONDS", 0.1)

    async def test(one: Up) -> None:
        await use(one, "ab")
        ids = {name: id_of(one, name) for name in "ab"}
        for name in "ab":
            one.stub.rule("invoke", "answer", model=ids[name], status=507, times=1)
        both = await asyncio.gather(*(one.says(name) for name in "ab"))
        assert both == ["a", "b"]

    on_instance(test, tmp_path)


def test_an_idle_connection_that_the_container_has_closed_costs_no_request(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("invoke", "close", times=3)
        for _ in range(6):
            assert await one.says("a") == "a"

    on_instance(test, tmp_path)


def test_a_request_that_may_have_been_carried_out_is_not_sent_again(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        one.stub.rule("invoke", "cut", times=1)
        assert isinstance(await failure(one.invoke("a")), ContainerLost)
        assert one.count("invoke") == 2

    on_instance(test, tmp_path)


def test_headers_and_body_go_as_they_are(tmp_path: Path) -> None:
    async def test(one: Up) -> None:
        await use(one, "a")
        (seen,) = one.stub.seen("invoke")
        assert seen.body == "a"
        assert seen.path == f"/models/{id_of(one, 'a')}/invoke"

    on_instance(test, tmp_path)
