"""What a gateway makes of workers and a controller that misbehave: both are hand-written here."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model_server import wire
from model_server.errors import Problem
from model_server.gateway.gateway import Gateway
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.run_dir import RunDir
from model_server.settings import Settings
from model_server.wire import PREFIX, ReplyHead, frame_head

from ..yard_parts import run, until

Answer = Callable[["Surroundings", asyncio.StreamWriter, bytes], Awaitable[None]]
LIMIT_SECONDS = 2.0


@dataclass
class Surroundings:
    """A gateway, a controller that answers from ``fates`` and ``ensured``, a worker."""

    gateway: Gateway
    run_dir: RunDir
    worker: Answer
    ensured: Callable[[], wire.Answer] = wire.Done
    fates: list[Problem | None] = field(default_factory=list)
    asked: list[wire.Command] = field(default_factory=list)
    served: int = 0
    open: int = 0

    async def invoke(self, body: bytes = b"x") -> HttpResponse:
        headers = [("X-Amzn-SageMaker-Inference-Id", "id")]
        return await ask(self.gateway, HttpRequest("POST", "/models/m/invoke", "", headers, body))

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the controller."""
        self.open += 1
        try:
            while True:
                command = await wire.read_command(reader)
                self.asked.append(command)
                answer: wire.Answer = wire.Done()
                if isinstance(command, wire.Ensure):
                    answer = self.ensured()
                elif isinstance(command, wire.Fate):
                    answer = wire.FateFound(self.fates.pop(0) if self.fates else None)
                writer.write(wire.message(answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()
            await closed(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the worker."""
        self.served += 1
        self.open += 1
        try:
            head_bytes, body_bytes = PREFIX.unpack(await reader.readexactly(PREFIX.size))
            await reader.readexactly(head_bytes)
            await self.worker(self, writer, await reader.readexactly(body_bytes))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()
            await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Wait until the transport is gone, however that comes."""
    with suppress(ConnectionError):
        await writer.wait_closed()


async def ask(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    """The response; a caller that is cancelled gives the request up, as a client would."""
    answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
    work = gateway(request, answered.set_result)
    try:
        return await answered
    except asyncio.CancelledError:
        if work is not None:
            work.cancel()
        raise


@pytest.fixture
def place() -> Iterator[RunDir]:
    with tempfile.TemporaryDirectory() as path:
        yield RunDir.create(path + "/r")


@asynccontextmanager
async def surroundings(
    place: RunDir, worker: Answer, *, hot: bool = True
) -> AsyncIterator[Surroundings]:
    settings = Settings(multi_model=True, request_timeout_seconds=LIMIT_SECONDS)
    made = Surroundings(Gateway(settings, place), place, worker)
    controller = await asyncio.start_unix_server(made.converse, place.control_socket)
    workers = await asyncio.start_unix_server(made.serve, place.model_socket("m") + ".new")
    if hot:
        publish(place)
    try:
        yield made
    finally:
        for _, writer in made.gateway._control._idle:
            writer.close()
        controller.close()
        workers.close()
        await until(lambda: made.open == 0)
        await asyncio.sleep(0.01)


def publish(place: RunDir) -> None:
    Path(place.model_socket("m") + ".new").rename(place.model_socket("m"))


def without_controller(place: RunDir) -> None:
    Path(place.control_socket).unlink()


def withdraw(place: RunDir) -> None:
    Path(place.model_socket("m")).unlink()


async def echo(_: Surroundings, writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(frame_head(ReplyHead(200, "a/b", (("X-A", "b"), ("Date", "x"))), len(body)) + body)
    await writer.drain()


async def hang_up(_: Surroundings, writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.close()


async def hang(_: Surroundings, writer: asyncio.StreamWriter, body: bytes) -> None:
    await asyncio.sleep(LIMIT_SECONDS * 2)


async def hang_up_once(around: Surroundings, writer: asyncio.StreamWriter, body: bytes) -> None:
    if around.served > 1:
        await echo(around, writer, body)


def problem(response: HttpResponse) -> tuple[int, str]:
    return response.status, json.loads(bytes(response.body))["message"]


def test_a_hot_model_is_asked_without_a_word_to_the_controller(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo) as around:
            response = await around.invoke(b"hello")
            assert (response.status, bytes(response.body)) == (200, b"hello")
            assert response.content_type == "a/b"
            assert response.headers == [("X-A", "b")]
            assert response.request_id == "id"
            assert around.asked == []

    run(work())


def test_a_cold_model_is_made_hot_first(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo, hot=False) as around:

            def make_hot() -> wire.Answer:
                publish(place)
                return wire.Done()

            around.ensured = make_hot
            assert (await around.invoke()).status == 200
            assert around.asked == [wire.Ensure("m")]

    run(work())


def test_why_a_model_cannot_be_made_hot_is_the_answer(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo, hot=False) as around:
            around.ensured = lambda: wire.Failed(Problem(507, "X", "too large", 2.5))
            response = await around.invoke()
            assert problem(response) == (507, "too large")
            assert ("Retry-After", "3") in response.headers

    run(work())


def test_a_model_that_comes_and_goes_is_given_up(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo, hot=False) as around:
            status, message = problem(await around.invoke())
            assert status == 503 and "comes and goes" in message
            assert 1 < len(around.asked) < 100

    run(work())


def test_a_request_that_no_worker_had_begun_is_sent_again(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, hang_up_once) as around:
            around.fates = [None]
            assert bytes((await around.invoke(b"again")).body) == b"again"
            (asked,) = around.asked
            assert isinstance(asked, wire.Fate)
            assert around.served == 2

    run(work())


def test_a_request_that_a_worker_died_with_is_not_sent_again(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, hang_up) as around:
            around.fates = [Problem(500, "WorkerDiedException", "it died of it")]
            assert problem(await around.invoke()) == (500, "it died of it")
            assert around.served == 1

    run(work())


def test_each_request_has_a_key_of_its_own(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, hang_up) as around:
            for _ in range(5):
                around.fates = [Problem(500, "X", "died")]
                await around.invoke()
            keys = {asked.key for asked in around.asked if isinstance(asked, wire.Fate)}
            assert len(keys) == 5

    run(work())


def test_an_answer_that_does_not_come_is_504(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, hang) as around:
            status, message = problem(await around.invoke())
            assert status == 504 and "2 seconds" in message

    run(work())


def test_a_model_that_is_not_made_hot_in_time_is_504(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo, hot=False) as around:
            asked, left = asyncio.Event(), asyncio.Event()

            async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                asked.set()
                while await reader.read(1000):  # until the gateway hangs up
                    pass
                writer.close()
                await closed(writer)
                left.set()

            without_controller(place)
            async with await asyncio.start_unix_server(never, place.control_socket):
                status, _ = problem(await around.invoke())
                assert status == 504 and asked.is_set()
                await left.wait()

    run(work())


def test_without_a_controller_hot_models_are_served_and_the_rest_is_503(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, echo) as around:
            without_controller(place)
            assert (await around.invoke()).status == 200
            withdraw(place)
            assert problem(await around.invoke())[0] == 503
            ping = await ask(around.gateway, HttpRequest("GET", "/ping", "", []))
            assert ping.status == 503

    run(work())


def test_what_clients_give_up_is_forgotten(place: RunDir) -> None:
    async def work() -> None:
        async with surroundings(place, hang) as around:
            asked = [asyncio.create_task(around.invoke()) for _ in range(3)]
            await until(lambda: around.served == 3)
            assert len(around.gateway._invoker.under_way) == 3
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
            assert around.gateway._invoker.under_way == {}

    run(work())
