"""A watch over real workers, on the running loop, with a ledger that the test writes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handlers.inspection import inspect_model
from model_server import model_sockets, wire
from model_server.errors import Problem
from model_server.memory.ledger import RAM, Ledger
from model_server.model import Model, State
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.processes.workers import Workers
from model_server.processes.zygotes import ZygotePool
from model_server.settings import Settings
from model_server.stats import StatsTable
from model_server.watch import Watch
from model_server.wire import InvokeHead, Receiver, ReplyHead, frame_head

from .told import make
from .yard_parts import until

MIB = 1 << 20


@dataclass
class Watched:
    """Workers and who watches them. ``relief`` is what the server answers under pressure."""

    directory: Path
    stats: StatsTable
    workers: Workers
    models: list[Model] = field(default_factory=list)
    deaths: list[tuple[Model, int]] = field(default_factory=list)
    used: list[tuple[str, int]] = field(default_factory=list)
    growths: list[tuple[str, int]] = field(default_factory=list)
    pressures: list[int] = field(default_factory=list)
    relief: bool = False
    limit_bytes: int = 1 << 40
    ceiling_bytes: int = 1 << 41

    def ledger(self) -> Ledger:
        """Memory as it stands; the server itself takes none."""
        return Ledger(RAM, self.limit_bytes, 0, sum(model.held_bytes for model in self.models))

    def watch(self) -> Watch:
        """One that has seen nothing yet."""
        return Watch(
            self.workers,
            self.stats,
            ram=self.ledger,
            ceiling_bytes=self.ceiling_bytes,
            on_growth=lambda model, worker, size: self.growths.append((model.name, size)),
            on_pressure=self._pressure,
        )

    def _pressure(self, excess_bytes: int) -> bool:
        self.pressures.append(excess_bytes)
        return self.relief

    def model(self, behaviour: str, settings: str = "", **environment: Any) -> Model:
        """A model that is about to load."""
        directory = make(self.directory, behaviour, settings, **environment)
        plan = inspect_model(directory, Settings().handler_options)
        path = str(self.directory / f"{directory.name}.sock")
        model = Model(directory.name, str(directory), plan, path)
        self.models.append(model)
        return model

    async def start(self, model: Model) -> Model:
        """Load it, and hold what it was measured to take."""
        listener = model.listener or model_sockets.listen(model, 8)
        await self.workers.start(model, listener)
        model_sockets.publish(model)
        if model.state is State.LOADING:
            model.move(State.READY)
        model.hold({RAM: sum(worker.private_bytes for worker in model.processes)})
        return model

    async def load(self, behaviour: str, settings: str = "", **environment: Any) -> Model:
        """A model that is loaded."""
        return await self.start(self.model(behaviour, settings, **environment))

    async def ask(self, model: Model, body: bytes = b"") -> str:
        """The answer to a request."""
        head, reply = await asyncio.to_thread(_ask, model.socket_path, body)
        assert head.status == 200, reply
        return reply

    async def told(self, model: Model, body: bytes) -> Problem | None:
        """What the client of a request hears that gets no answer."""
        workers = list(model.workers)
        try:
            await self.ask(model, body)
        except ConnectionError:
            return await self.workers.fate(workers, 1)
        raise AssertionError("it was answered")


def _ask(path: str, body: bytes) -> tuple[ReplyHead, str]:
    head = InvokeHead(1, 0, "id-1", ())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(40)
        connection.connect(path)
        connection.sendall(frame_head(head, len(body)) + body)
        encoded, reply = Receiver().receive(connection)
    return wire.decode_reply(encoded), bytes(reply).decode()


@asynccontextmanager
async def watched(directory: Path) -> AsyncIterator[Watched]:
    """Everything is gone when it is left."""
    lifeline = Lifeline()
    stats = StatsTable.create(directory / "stats")
    children = Children(on_adopted_exit=lambda pid, code: workers.told_of_exit(pid, code))
    children.watch(asyncio.get_running_loop())
    zygotes = ZygotePool(
        Settings(),
        children,
        lifeline_fd=lifeline.read_fd,
        stats_path=str(directory / "stats"),
        environment=os.environ,
        on_worker_exit=lambda pid, code: workers.told_of_exit(pid, code),
    )

    def died(model: Model, worker: object, code: int) -> None:
        here.deaths.append((model, code))

    used: list[tuple[str, int]] = []
    workers = Workers(
        Settings(),
        stats,
        zygotes,
        died,
        on_used=lambda model, times, now: used.append((model.name, times)),
    )
    here = Watched(directory, stats, workers, used=used)
    try:
        yield here
    finally:
        for model in here.models:
            await workers.end(model, drain=False)
            model_sockets.close(model)
        zygotes.close()
        lifeline.close()
        await until(lambda: not children._on_exit)
