"""A gateway's line to the controller, against a hand-written controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from model_server import wire
from model_server.errors import Problem, ProblemError, ServerUnavailable
from model_server.gateway.control_client import ControlClient

from ..yard_parts import run, until


class Controller:
    """Answers ``List(n)`` with the text of n, when it is let; drops the line on ``Unload``."""

    def __init__(self) -> None:
        self.connections = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                command = await wire.read_command(reader)
                await self.gate.wait()
                match command:
                    case wire.List(limit, _):
                        answer: wire.Answer = wire.Text(str(limit))
                    case wire.Unload():
                        return
                    case _:
                        answer = wire.Failed(Problem(404, "NotFound", "no such thing"))
                writer.write(wire.message(answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def controller(tmp_path: Path) -> AsyncIterator[tuple[Controller, ControlClient]]:
    made = Controller()
    path = str(tmp_path / "control.sock")
    client = ControlClient(path)
    server = await asyncio.start_unix_server(made.converse, path)
    try:
        yield made, client
    finally:
        for _, writer in client._idle:
            writer.close()
        server.close()
        await asyncio.sleep(0)


def test_one_connection_is_used_again_and_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with controller(tmp_path) as (made, client):
            for number in range(20):
                assert await client.ask(wire.List(number, None)) == wire.Text(str(number))
            assert made.connections == 1

    run(work())


def test_answers_of_questions_asked_at_once_are_not_mixed_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with controller(tmp_path) as (made, client):
            asked = [client.ask(wire.List(number, None)) for number in range(50)]
            assert await asyncio.gather(*asked) == [wire.Text(str(n)) for n in range(50)]
            assert len(client._idle) <= 8
            assert made.connections <= 50

    run(work())


def test_a_question_that_is_given_up_never_answers_the_next_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with controller(tmp_path) as (made, client):
            await client.ask(wire.List(0, None))
            made.gate.clear()
            given_up = asyncio.create_task(client.ask(wire.List(1, None)))
            await until(lambda: not client._idle)
            given_up.cancel()
            await asyncio.wait([given_up])
            made.gate.set()
            assert await client.ask(wire.List(2, None)) == wire.Text("2")

    run(work())


def test_a_failure_is_raised_as_it_was_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with controller(tmp_path) as (_, client):
            with pytest.raises(ProblemError) as told:
                await client.ask(wire.Ping())
            assert told.value.problem() == Problem(404, "NotFound", "no such thing")
            assert await client.ask(wire.List(1, None)) == wire.Text("1")

    run(work())


def test_a_controller_that_hangs_up_is_unavailable_and_the_next_question_is_asked_anew(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        async with controller(tmp_path) as (_, client):
            with pytest.raises(ServerUnavailable):
                await client.ask(wire.Unload("x"))
            assert await client.ask(wire.List(1, None)) == wire.Text("1")

    run(work())


def test_a_controller_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(ServerUnavailable):
            await ControlClient(str(tmp_path / "absent.sock")).ask(wire.Ping())

    run(work())
