"""The feed in one process: who is slow, who leaves, when nobody is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiohttp import web

from endpoint.page import stream
from endpoint.page.feed import Feed

SECONDS = 50.0
LARGE = 200_000


@dataclass
class Event:
    number: int


class Counting:
    """A source whose document is another one each time, and as large as it is told to be."""

    def __init__(self, size: int = 0) -> None:
        self.looks = 0
        self.measured = 0
        self.fails = False  # once
        self.failed = asyncio.Event()
        self._size = size

    async def measure(self) -> None:
        self.measured += 1

    async def seen(self, since: int) -> dict[str, Any]:
        self.looks += 1
        if self.fails:
            self.fails = False
            self.looks -= 1
            self.failed.set()
            raise ValueError("no document")
        assert since == self.looks - 1
        endpoint = {"name": "e", "looks": self.looks, "filling": "x" * self._size}
        return {"time": 0.0, "endpoints": [endpoint], "events": [Event(self.looks)]}


def looks(message: bytes | None) -> tuple[str, int]:
    """The kind of a message, and the number of its document."""
    assert message is not None
    name, data = message.decode().removesuffix("\n\n").split("\n")
    (endpoint,) = msgspec.json.decode(data.removeprefix("data: "))["endpoints"]
    return name.removeprefix("event: "), endpoint["looks"]


def in_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SECONDS):
            await test()

    asyncio.run(limited())


def test_all_are_told_the_same_and_newcomers_what_there_is() -> None:
    async def test() -> None:
        feed = Feed(Counting(), pause_seconds=0.001)
        with feed.viewing() as first:
            assert looks(await first.next()) == ("status", 1)
            assert looks(await first.next()) == ("change", 2)
            with feed.viewing() as second:
                name, number = looks(await second.next())
                assert (name, number >= 2) == ("status", True)
                change = await second.next()
                assert looks(change) == ("change", number + 1)
                while (same := await first.next()) != change:
                    assert looks(same)[1] <= number
                assert same is change  # made once
            assert feed.viewers == 1

    in_loop(test)


def test_nothing_is_done_while_nobody_views() -> None:
    async def test() -> None:
        source = Counting()
        feed = Feed(source, pause_seconds=0.001)
        assert source.looks == 0
        for _ in range(2):
            with feed.viewing() as viewer:
                assert looks(await viewer.next())[0] == "status"
            source.looks = 0
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*tasks, return_exceptions=True)  # none of them goes on
            assert source.looks == 0

    in_loop(test)


def test_who_does_not_keep_up_skips() -> None:
    async def test() -> None:
        source = Counting()
        feed = Feed(source, pause_seconds=0.001)
        with feed.viewing() as slow, feed.viewing() as quick:
            assert looks(await slow.next()) == ("status", 1)
            while looks(await quick.next())[1] < 100:
                pass
            name, number = looks(await slow.next())
            assert (name, number >= 90) == ("status", True)
            assert looks(await slow.next()) == ("change", number + 1)

    in_loop(test)


def test_a_look_that_fails_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        source = Counting()
        feed = Feed(source, pause_seconds=0.001)
        with feed.viewing() as viewer:
            assert looks(await viewer.next()) == ("status", 1)
            source.fails = True
            await source.failed.wait()
            while looks(await viewer.next())[1] < 5:
                pass

    with caplog.at_level(logging.ERROR):
        in_loop(test)
    assert "the page cannot be told what there is" in caplog.text


def test_the_end_wakes_who_waits() -> None:
    async def test() -> None:
        feed = Feed(Counting(), pause_seconds=SECONDS)
        with feed.viewing() as viewer:
            await viewer.next()
            waiting = asyncio.create_task(viewer.next())
            await asyncio.sleep(0)
            feed.end()
            assert await waiting is None
            assert await viewer.next() is None

    in_loop(test)


@asynccontextmanager
async def served(
    feed: Feed, came: asyncio.Queue[web.BaseRequest], left: asyncio.Event
) -> AsyncIterator[int]:
    """The feed on a port, the requests that come, and whether one has ended."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        came.put_nowait(request)
        try:
            with feed.viewing() as viewer:
                return await stream.send(request, viewer)
        finally:
            left.set()

    server = web.Server(answer, handler_cancellation=True)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(1.0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """What comes for one that views there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * LARGE)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def next_of(reader: asyncio.StreamReader) -> tuple[str, int]:
    name = await reader.readuntil(b"event: ")
    name = await reader.readuntil(b"\n")
    data = await reader.readuntil(b"\n\n")
    return looks(b"event: " + name + data)


def test_one_that_reads_nothing_takes_little_memory_and_holds_up_nobody() -> None:
    async def test() -> None:
        came: asyncio.Queue[web.BaseRequest] = asyncio.Queue()
        feed = Feed(Counting(LARGE), pause_seconds=0.001)
        async with served(feed, came, asyncio.Event()) as port, connected(port) as slow:
            transport = (await came.get()).transport
            async with connected(port) as quick:
                while (await next_of(quick))[1] < 200:
                    pass
            assert isinstance(transport, asyncio.WriteTransport)
            assert transport.get_write_buffer_size() < 3 * LARGE
            seen = [await next_of(slow)]
            while seen[-1][1] < 200:
                seen.append(await next_of(slow))
            assert len(seen) < seen[-1][1]
            skipped = [name for (name, _) in seen[1:]].count("status")
            assert skipped >= 1

    in_loop(test)


def test_one_that_leaves_is_noticed() -> None:
    async def test() -> None:
        feed = Feed(Counting(), pause_seconds=0.001)
        left = asyncio.Event()
        async with served(feed, asyncio.Queue(), left) as port:
            async with connected(port) as reader:
                await next_of(reader)
                assert feed.viewers == 1
            await left.wait()
            assert feed.viewers == 0

    in_loop(test)
