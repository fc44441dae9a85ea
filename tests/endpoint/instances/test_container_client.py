"""Requests to stub containers that keep the contract, and to some that do not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoint.instances.container_client import (
    MAX_CONTROL_BYTES,
    TARGET_MODEL,
    Answer,
    BadAnswer,
    ContainerClient,
    ContainerLost,
    ContainerTimeout,
    ContainerUnreachable,
)
from endpoint.invocation import Headers
from tests.endpoint.containers.running import Stub, started
from tests.endpoint.instances.clients import MAX_BODY_BYTES, SECONDS, client_of, with_client

HEADERS: Headers = (("Content-Type", "text/csv"), ("Accept", "application/json"))
SOON = 0.1  # for answers that never come


@pytest.fixture
def stub() -> Iterator[Stub]:
    with started() as one:
        yield one


async def invoke(client: ContainerClient) -> Answer:
    return await client.invoke("m", HEADERS, b"1,2", SECONDS)


async def load(client: ContainerClient, model_id: str, directory: Path) -> Answer:
    return await client.load(model_id, str(directory), f"{model_id}.tar.gz", SECONDS)


def test_a_model_is_loaded_listed_invoked_and_unloaded(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "says").write_text("hello")

    async def ask(client: ContainerClient) -> tuple[Any, ...]:
        assert (await client.ping()).status == 200
        assert (await load(client, "m", tmp_path)).status == 200
        assert (await load(client, "m", tmp_path)).status == 409
        assert await client.list_models() == {"m": str(tmp_path)}
        answer = await invoke(client)
        assert (await client.unload("m", "m.tar.gz", SECONDS)).status == 200
        assert (await client.unload("m", "m.tar.gz", SECONDS)).status == 404
        assert (await invoke(client)).status == 404
        assert await client.list_models() == {}
        return answer.status, answer.headers, json.loads(answer.body)

    status, headers, echo = with_client(stub.url, ask)
    assert status == 200
    assert ("Content-Type", "application/json") in headers
    assert (echo["model"], echo["says"], echo["body"]) == ("m", "hello", "1,2")


def test_headers_and_body_of_an_invoke_go_as_given_and_no_others(stub: Stub) -> None:
    given = (*HEADERS, (TARGET_MODEL, "a b/c.tar.gz"), ("X-Twice", "1"), ("X-Twice", "2"))
    body = bytes(range(256))

    async def ask(client: ContainerClient) -> Answer:
        return await client.invoke("m", given, body, SECONDS)

    with_client(stub.url, ask)
    (seen,) = stub.seen("invoke")
    framing = {"Host", "Content-Length"}
    assert [tuple(pair) for pair in seen.headers if pair[0] not in framing] == list(given)
    assert seen.body == body.decode("latin-1")


def test_an_invoke_without_headers_and_body_sends_none(stub: Stub) -> None:
    async def ask(client: ContainerClient) -> Answer:
        return await client.invoke("m", (), b"", SECONDS)

    with_client(stub.url, ask)
    (seen,) = stub.seen("invoke")
    assert {name for name, _ in seen.headers} <= {"Host", "Content-Length"}
    assert seen.body == ""


@pytest.mark.parametrize(
    ("given", "sent"),
    [("gr\u00fcn", "gr\u00fcn"), ("gr\udcfcn", "gr\u00fcn"), ("\u6a21", "\u6a21")],
)
def test_header_bytes_that_are_not_ascii_arrive_as_utf_8(stub: Stub, given: str, sent: str) -> None:
    async def ask(client: ContainerClient) -> Answer:
        return await client.unload("m", given, SECONDS)

    with_client(stub.url, ask)
    (seen,) = stub.seen("unload")
    assert (seen.header(TARGET_MODEL) or "").encode("latin-1").decode() == sent


@pytest.mark.parametrize("model_id", ["a/b", "..", "a b?c#d%20", "\u6a21\u578b"])
def test_any_id_is_one_segment_of_the_path(stub: Stub, model_id: str) -> None:
    async def ask(client: ContainerClient) -> tuple[Answer, Answer]:
        return (
            await client.invoke(model_id, (), b"", SECONDS),
            await client.unload(model_id, "t", SECONDS),
        )

    with_client(stub.url, ask)
    assert [(seen.on, seen.model) for seen in stub.seen()] == [
        ("invoke", model_id),
        ("unload", model_id),
    ]


def test_target_model_goes_along_with_load_and_unload(stub: Stub, tmp_path: Path) -> None:
    async def ask(client: ContainerClient) -> None:
        await load(client, "m", tmp_path)
        await client.unload("m", "m.tar.gz", SECONDS)

    with_client(stub.url, ask)
    assert [seen.header(TARGET_MODEL) for seen in stub.seen()] == ["m.tar.gz", "m.tar.gz"]


def test_a_container_of_one_model_is_asked_at_invocations() -> None:
    with started(multi_model=False) as stub:

        async def ask(client: ContainerClient) -> Answer:
            return await client.invocations(HEADERS, b"1,2", SECONDS)

        assert json.loads(with_client(stub.url, ask).body)["body"] == "1,2"
        assert [seen.path for seen in stub.seen()] == ["/invocations"]


def test_bodies_of_megabytes_go_both_ways(stub: Stub) -> None:
    stub.rule("invoke", "large", bytes=MAX_BODY_BYTES)
    body = b"ab" * (MAX_BODY_BYTES // 2)

    async def ask(client: ContainerClient) -> Answer:
        return await client.invoke("m", (), body, SECONDS)

    assert with_client(stub.url, ask).body == b"x" * MAX_BODY_BYTES
    (seen,) = stub.seen("invoke")
    assert seen.body.encode() == body


@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_answer_is_bad_and_the_next_request_is_not(stub: Stub, chunked: bool) -> None:
    stub.rule("invoke", "large", bytes=MAX_BODY_BYTES + 1, chunked=chunked, times=1)

    async def ask(client: ContainerClient) -> None:
        with pytest.raises(BadAnswer, match=f"bytes or more; it may have {MAX_BODY_BYTES}"):
            await invoke(client)
        assert (await invoke(client)).status == 404

    with_client(stub.url, ask)


def test_answers_to_the_endpoint_itself_are_bounded_too(stub: Stub, tmp_path: Path) -> None:
    stub.rule("*", "large", bytes=MAX_CONTROL_BYTES + 1, chunked=True)

    async def ask(client: ContainerClient) -> None:
        for request in (
            client.ping(),
            client.list_models(),
            load(client, "m", tmp_path),
            client.unload("m", "m", SECONDS),
        ):
            with pytest.raises(BadAnswer, match="it may have 1048576"):
                await request

    with_client(stub.url, ask)


def test_errors_and_redirects_are_answers(stub: Stub) -> None:
    stub.rule("invoke", "answer", status=507, text="no memory", times=1)
    stub.rule("invoke", "answer", status=302, headers={"Location": "/ping"}, times=1)

    async def ask(client: ContainerClient) -> list[Answer]:
        return [await invoke(client), await invoke(client)]

    full, moved = with_client(stub.url, ask)
    assert (full.status, full.text) == (507, "no memory")
    assert (moved.status, dict(moved.headers)["Location"]) == (302, "/ping")
    assert not stub.seen("ping")


def test_compressed_answers_stay_compressed(stub: Stub) -> None:
    stub.rule("invoke", "answer", text="not really gzip", headers={"Content-Encoding": "gzip"})
    assert with_client(stub.url, invoke).body == b"not really gzip"


def test_cookies_are_not_kept(stub: Stub) -> None:
    stub.rule("invoke", "answer", headers={"Set-Cookie": "a=b"}, times=1)

    async def ask(client: ContainerClient) -> None:
        await invoke(client)
        await invoke(client)

    with_client(stub.url, ask)
    assert stub.seen("invoke")[1].header("Cookie") is None


def test_nothing_was_sent_where_nobody_listens() -> None:
    with (
        started(listens=False) as stub,
        pytest.raises(ContainerUnreachable, match="no connection to"),
    ):
        with_client(stub.url, invoke)


def test_nothing_was_sent_where_no_connection_is_accepted() -> None:
    async def ask(url: str) -> None:
        async with client_of(url) as client:
            client._connect_timeout_seconds = SOON
            with pytest.raises(ContainerUnreachable, match=r"no connection to .* in 0\.1 s"):
                await invoke(client)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)  # its queue is full now
            asyncio.run(ask(f"http://127.0.0.1:{address[1]}"))


def test_a_container_that_hangs_is_given_up_in_time(stub: Stub) -> None:
    stub.rule("invoke", "hang")

    async def ask(client: ContainerClient) -> None:
        with pytest.raises(ContainerTimeout, match=r"POST /models/m/invoke: .* in 0\.1 s"):
            await client.invoke("m", (), b"", SOON)
        stub.release()
        assert (await invoke(client)).status == 404

    with_client(stub.url, ask)


def test_what_a_connection_breaks_before_the_answer_says_so(stub: Stub) -> None:
    stub.rule("invoke", "break", times=2)

    async def ask(client: ContainerClient) -> list[ContainerLost]:
        lost = []
        for _ in range(2):
            with pytest.raises(ContainerLost, match="before it answered") as caught:
                await invoke(client)
            lost.append(caught.value)
            await client.ping()  # leaves a connection to be used again
        return lost

    fresh, reused = with_client(stub.url, ask)
    assert (fresh.before_answer, fresh.reused) == (True, False)
    assert (reused.before_answer, reused.reused) == (True, True)


def test_a_connection_that_the_container_closed_is_not_used_or_was_used_in_vain(
    stub: Stub,
) -> None:
    stub.rule("ping", "close")

    async def ask(client: ContainerClient) -> None:
        for _ in range(50):
            assert (await client.ping()).status == 200
            try:
                assert (await invoke(client)).status == 404
            except ContainerLost as lost:
                assert lost.before_answer and lost.reused

    with_client(stub.url, ask)


def test_what_a_container_says_unasked_is_nobodys_answer(stub: Stub) -> None:
    stub.rule("invoke", "again", times=1)

    async def ask(client: ContainerClient) -> Answer:
        await client.invoke("first", (), b"", SECONDS)
        stub.release()
        stub.wait_for("again")
        for _ in range(3):  # what has reached the socket is read
            await asyncio.sleep(0)
        return await client.invoke("second", (), b"", SECONDS)

    assert "second is not loaded" in with_client(stub.url, ask).text


@pytest.mark.parametrize("how", ["cut", "cut_head", "die"])
def test_an_answer_that_breaks_off_is_lost_in_the_middle(stub: Stub, how: str) -> None:
    stub.rule("invoke", how)
    with pytest.raises(ContainerLost, match="in the middle of its answer") as caught:
        with_client(stub.url, invoke)
    assert not caught.value.before_answer


def test_a_chunked_answer_that_breaks_off_is_lost_too(stub: Stub) -> None:
    stub.rule("invoke", "cut", chunked=True)
    with pytest.raises(ContainerLost):
        with_client(stub.url, invoke)


def test_garbage_is_a_bad_answer(stub: Stub) -> None:
    stub.rule("invoke", "garbage")
    with pytest.raises(BadAnswer, match="not HTTP"):
        with_client(stub.url, invoke)


def test_a_request_that_is_cancelled_closes_its_connection(stub: Stub) -> None:
    stub.rule("invoke", "hang")

    async def ask(client: ContainerClient) -> None:
        task = asyncio.create_task(invoke(client))
        await asyncio.to_thread(stub.wait_for, "invoke")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connector = client._session.connector
        assert connector is not None and not connector._acquired

    with_client(stub.url, ask)
    stub.release()


def test_requests_at_once_all_get_their_own_answer(stub: Stub) -> None:
    stub.rule("invoke", "hang")

    async def ask(client: ContainerClient) -> list[Answer]:
        tasks = [
            asyncio.create_task(client.invoke(f"m{number}", (), b"", SECONDS))
            for number in range(100)
        ]
        await asyncio.to_thread(stub.wait_for, "invoke", 100)
        stub.release()
        return await asyncio.gather(*tasks)

    answers = with_client(stub.url, ask)
    assert [json.loads(answer.body)["message"] for answer in answers] == [
        f"m{number} is not loaded" for number in range(100)
    ]
