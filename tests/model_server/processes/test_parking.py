"""Workers told to leave their GPU and to come back, as the controller tells them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from handlers.inspection import inspect_model
from model_server import wire
from model_server.errors import ModelTimeout, ServerError
from model_server.model import Model, Worker
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.processes.workers import Workers
from model_server.processes.zygotes import ZygotePool
from model_server.settings import Settings
from model_server.stats import FINISHED, StatsTable

from ..told import make
from ..yard_parts import LIMIT_SECONDS, run, until

ON_GPU = 'device = "cuda:0"'


class Company:
    """Workers of models, with what a controller has for them, on the running loop."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self._lifeline = Lifeline()
        self._children = Children(on_adopted_exit=self._died)
        self._children.watch(asyncio.get_running_loop())
        stats_path = str(directory / "stats")
        self._zygotes = ZygotePool(
            settings,
            self._children,
            lifeline_fd=self._lifeline.read_fd,
            stats_path=stats_path,
            environment=dict(os.environ),
            on_worker_exit=self._died,
        )
        stats = StatsTable.create(Path(stats_path))
        self.workers = Workers(settings, stats, self._zygotes, self._note_death)
        self.deaths: list[tuple[int, int]] = []
        self.listeners: list[socket.socket] = []
        self.models: list[Model] = []

    async def load(self, behaviour: str, processes: int = 1, **environment: Any) -> Model:
        """A model of that behaviour on GPU 0, with so many workers."""
        where = make(
            self.directory, behaviour, ON_GPU, MOVES=self.directory / "moves", **environment
        )
        plan = inspect_model(where, Settings().handler_options)
        model = Model(where.name, str(where), plan, str(self.directory / f"{where.name}.sock"))
        model.gpu = 0
        self.models.append(model)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(model.socket_path)
        listener.listen(8)
        self.listeners.append(listener)
        for _ in range(processes):
            await self.workers.start(model, listener)
        return model

    def moves(self) -> list[tuple[str, int]]:
        """What the model's functions were asked, and in which process."""
        lines = (self.directory / "moves").read_text().splitlines()
        return [(what, int(pid)) for what, pid in (line.split() for line in lines)]

    async def close(self) -> None:
        for model in self.models:
            await self.workers.end(model, drain=False)
        for listener in self.listeners:
            listener.close()
        self._zygotes.close()
        self._lifeline.close()
        await until(lambda: not self._children._on_exit)

    def _died(self, pid: int, code: int) -> None:
        self.workers.told_of_exit(pid, code)

    def _note_death(self, _: Model, worker: Worker, code: int) -> None:
        self.deaths.append((worker.pid, code))


@asynccontextmanager
async def company(directory: Path, **settings: Any) -> AsyncIterator[Company]:
    made = Company(directory, Settings(**settings))
    try:
        yield made
    finally:
        await made.close()


def only(model: Model) -> Worker:
    (worker,) = model.workers
    return worker


class Asked:
    """A request in a model's queue."""

    def __init__(self, model: Model, body: bytes = b"") -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(LIMIT_SECONDS)
        self._connection.connect(model.socket_path)
        head = wire.InvokeHead(1, time.monotonic_ns(), "id", ())
        with suppress(ConnectionError):  # a worker that hangs up may be quicker
            self._connection.sendall(wire.frame_head(head, len(body)) + body)

    async def answer(self) -> Any:
        """What it came to, decoded. Raises ConnectionError when the worker hung up."""
        return await asyncio.to_thread(self._answer)

    def _answer(self) -> Any:
        with self._connection:
            head, body = wire.Receiver().receive(self._connection)
        assert wire.decode_reply(head).status == 200, body
        return json.loads(body)


def test_it_leaves_and_comes_back_in_the_same_process(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", GPU_DIR=short_path, GPU_BYTES=1 << 30)
            worker = only(model)
            said = short_path / str(worker.pid)
            assert worker.can_park
            worker.private_bytes = 0
            await firm.workers.park(model)
            assert json.loads(said.read_text()) == {"0": 1 << 20}
            assert worker.private_bytes > 0
            await firm.workers.restore(model)
            assert json.loads(said.read_text()) == {"0": 1 << 30}
            assert await Asked(model).answer() == {"pid": worker.pid, "on_gpu": True}
            assert firm.moves() == [("park", worker.pid), ("restore", worker.pid)]

    run(work())


def test_what_is_queued_is_answered_before_it_leaves(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks")
            asked = [Asked(model, b"0.1") for _ in range(3)]
            await firm.workers.park(model)
            assert only(model).slot[FINISHED] == 3
            assert [(await each.answer())["on_gpu"] for each in asked] == [True] * 3

    run(work())


def test_who_finds_it_parked_is_hung_up_on_and_may_ask_again(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks")
            await firm.workers.park(model)
            with pytest.raises(ConnectionError):
                await Asked(model).answer()
            assert await firm.workers.fate(model.workers, 1) is None
            await firm.workers.restore(model)
            assert (await Asked(model).answer())["on_gpu"]

    run(work())


def test_all_workers_of_a_model_move_at_once(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            go_on, moves = short_path / "go-on", short_path / "moves"
            model = await firm.load("parks", 3, WAITS_FOR=go_on)
            moving = asyncio.create_task(firm.workers.park(model))
            await until(lambda: moves.exists() and len(firm.moves()) == 3)
            assert {pid for _, pid in firm.moves()} == {worker.pid for worker in model.workers}
            assert not moving.done()
            go_on.touch()
            await moving
            await firm.workers.restore(model)
            assert len(firm.moves()) == 6

    run(work())


@pytest.mark.parametrize("parked", [False, True])
def test_it_leaves_when_its_leash_is_cut_wherever_it_is(short_path: Path, parked: bool) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks")
            pid = only(model).pid
            if parked:
                await firm.workers.park(model)
            await firm.workers.end(model, drain=True)
            assert firm.deaths == [(pid, 0)]

    run(work())


def test_it_leaves_when_its_leash_is_cut_in_the_middle_of_a_move(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", SLOW_SECONDS=0.5)
            pid = only(model).pid
            moving = asyncio.create_task(firm.workers.park(model))
            await until((short_path / "moves").exists)
            await firm.workers.end(model, drain=True)
            assert firm.deaths == [(pid, 0)]
            await refused(moving, 500, "while its weights were moved")

    run(work())


async def refused(move: Awaitable[None], status: int, said: str) -> None:
    with pytest.raises(ServerError, match=said) as caught:
        await move
    assert caught.value.status == status


def test_a_model_that_cannot_leave_goes_on_as_before(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", FAILS="park")
            await refused(firm.workers.park(model), 500, "RuntimeError: cannot park")
            assert (await Asked(model).answer())["on_gpu"]

    run(work())


def test_a_model_that_cannot_come_back_stays_away_and_may_try_again(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", FAILS="restore")
            await firm.workers.park(model)
            for _ in range(2):
                await refused(firm.workers.restore(model), 500, "cannot restore")
            with pytest.raises(ConnectionError):
                await Asked(model).answer()
            assert firm.deaths == []

    run(work())


def test_a_model_that_knows_no_parking_says_so(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("echo")
            assert not only(model).can_park
            await refused(firm.workers.park(model), 500, "does not know how to leave")

    run(work())


def test_a_process_that_ends_while_it_moves_is_told(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", FAILS="park-exits")
            pid = only(model).pid
            await refused(firm.workers.park(model), 500, "while its weights were moved")
            assert firm.deaths == [(pid, 9)]

    run(work())


def test_a_process_that_could_never_say_that_it_has_moved_is_ended(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", FAILS="park-closes")
            pid = only(model).pid
            await refused(firm.workers.park(model), 500, "while its weights were moved")
            assert firm.deaths == [(pid, -9)]

    run(work())


def test_a_move_has_a_time_limit(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path, drain_timeout_seconds=0.2) as firm:
            model = await firm.load("parks", SLOW_SECONDS=5)
            with pytest.raises(ModelTimeout, match=r"more than 0\.2 seconds"):
                await firm.workers.park(model)
            await firm.workers.end(model, drain=False)

    run(work())


def test_a_model_without_workers_has_nothing_to_move(short_path: Path) -> None:
    async def work() -> None:
        async with company(short_path) as firm:
            model = await firm.load("parks", 0)
            await firm.workers.park(model)

    run(work())
