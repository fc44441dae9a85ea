"""Parts of a controller, put together on a loop of the test's own."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from handlers.inspection import inspect_model
from model_server import wire
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.processes.zygotes import ZygotePool
from model_server.settings import Settings
from model_server.stats import StatsTable
from model_server.wire import InvokeHead, Receiver, ReplyHead, frame_head

from ..contract.endpoint import BEHAVIOURS

_PR_SET_CHILD_SUBREAPER = 36
LIMIT_SECONDS = 60.0


@contextmanager
def adopting() -> Iterator[None]:
    """Undo at the end what ``Children.watch`` makes of this process: a parent of orphans."""
    try:
        yield
    finally:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on a loop of its own; longer than the limit is a hang."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await work

    with adopting():
        asyncio.run(limited())


async def until(check: Callable[[], bool], *, within_seconds: float = 40.0) -> None:
    """Wait on the loop until ``check`` is true."""
    deadline = time.monotonic() + within_seconds
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


@dataclass
class Nursery:
    """A zygote pool and what it needs; ``exits`` are the deaths of workers, pid and code."""

    zygotes: ZygotePool
    children: Children
    directory: Path
    stats: StatsTable
    exits: list[tuple[int, int]] = field(default_factory=list)
    adopted: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0
    data_limit_bytes: int | None = None  # of workers that are forked from now on

    async def fork(self, behaviour: str = "echo", framework: str = "python") -> Worker:
        """Fork a worker of that behaviour and wait for what it says of its load."""
        model_dir = self.directory / behaviour
        if not model_dir.exists():
            shutil.copytree(BEHAVIOURS / behaviour, model_dir)
        self.count += 1
        path = str(self.directory / f"{self.count}.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(8)
            return await self._fork_on(listener, path, model_dir, framework)

    async def _fork_on(
        self, listener: socket.socket, path: str, model_dir: Path, framework: str
    ) -> Worker:
        options = Settings().handler_options
        plan = inspect_model(model_dir, options)
        slot = self.stats.claim()
        assert plan.framework == framework and slot is not None
        spec = wire.WorkerSpec(self.count, slot, f"model-{self.count}", plan, options)
        spec = msgspec.structs.replace(spec, data_limit_bytes=self.data_limit_bytes)
        leash, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash.setblocking(False)
        try:
            with far_end:
                pids: list[int] = []
                await self.zygotes.get(framework).fork(spec, listener, far_end, pids.append)
                (pid,) = pids
            data = await asyncio.get_running_loop().sock_recv(leash, 1 << 16)
        except BaseException:
            leash.close()
            raise
        word = wire.decode_worker_message(data) if data else None
        return Worker(pid, path, leash, self.stats.slot(slot), word)

    def code_of(self, pid: int) -> int | None:
        """With which code a worker ended; None while it lives."""
        return dict(self.exits + self.adopted).get(pid)


@dataclass(frozen=True)
class Worker:
    """A forked worker: where it listens, its leash, its counters, what it said of its load."""

    pid: int
    path: str
    leash: socket.socket
    slot: memoryview
    word: wire.WorkerMessage | None

    async def ask(self, body: bytes = b"", sent_ns: int | None = None) -> tuple[ReplyHead, bytes]:
        """One request, as a gateway sends it."""
        return await asyncio.to_thread(self._ask, body, sent_ns)

    def _ask(self, body: bytes, sent_ns: int | None) -> tuple[ReplyHead, bytes]:
        head = InvokeHead(1, sent_ns or time.monotonic_ns(), "id-1", ())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(LIMIT_SECONDS)
            connection.connect(self.path)
            connection.sendall(frame_head(head, len(body)) + body)
            encoded, reply = Receiver().receive(connection)
        return wire.decode_reply(encoded), bytes(reply)


@asynccontextmanager
async def nursery(
    directory: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Nursery]:
    """A zygote pool on the running loop; everything is gone when it is left."""
    loop = asyncio.get_running_loop()
    lifeline = Lifeline()
    exits: list[tuple[int, int]] = []
    adopted: list[tuple[int, int]] = []
    children = Children(on_adopted_exit=lambda pid, code: adopted.append((pid, code)))
    children.watch(loop)
    stats = StatsTable.create(directory / "stats")
    zygotes = ZygotePool(
        Settings(),
        children,
        lifeline_fd=lifeline.read_fd,
        stats_path=str(directory / "stats"),
        environment={**os.environ, **(environment or {})},
        on_worker_exit=lambda pid, code: exits.append((pid, code)),
    )
    try:
        yield Nursery(zygotes, children, directory, stats, exits, adopted)
    finally:
        zygotes.close()
        lifeline.close()
        await until(lambda: not children._on_exit)
