"""The loop that forks workers, in a process of its own, and the controller's end of its channel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handlers.types import HandlerOptions, Interface, ModelPlan
from model_server import wire
from model_server.processes.fork_channel import ForkChannel, ForkParentDied
from model_server.processes.lifeline import Lifeline

from ...contract.processes import is_running
from ..yard_parts import until

# What a forked child does is the name of its model.
LOOP = """
import os, signal, socket, sys, time
from model_server.processes.fork_loop import ForkLoop

def become(spec, listener, leash):
    what, _, argument = spec.model_name.partition(" ")
    leash.send(str(os.getpid()).encode())
    if what == "wait":
        leash.recv(1)
    if what == "exit":
        os._exit(int(argument))
    if what == "raise":
        raise ValueError(argument)
    if what == "return":
        return
    if what == "child":
        child = os.fork()
        if child == 0:
            time.sleep(60)
        leash.send(str(child).encode())
        leash.recv(1)
    os._exit(0)

ForkLoop(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), become).run()
"""


class Yard:
    """The loop's process, the channel to it, and the deaths that it reports."""

    def __init__(self) -> None:
        self.exits: list[tuple[int, int]] = []
        self.gone = 0
        self.lifeline = Lifeline()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(far.fileno()), str(self.lifeline.read_fd)],
            pass_fds=(far.fileno(), self.lifeline.read_fd),
        )
        far.close()
        self.channel = ForkChannel(
            near,
            on_worker_exit=lambda pid, code: self.exits.append((pid, code)),
            on_gone=self._went,
        )
        self.listener = socket.socket(socket.AF_UNIX)
        self._ids = 0

    def _went(self) -> None:
        self.gone += 1

    async def fork(self, what: str) -> tuple[int, socket.socket]:
        """The pid of a new worker, and its leash."""
        self._ids += 1
        plan = ModelPlan("/tmp", "python", Interface.SAGEMAKER)
        spec = wire.WorkerSpec(self._ids, 0, what, plan, HandlerOptions())
        leash, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash.setblocking(False)
        pids: list[int] = []
        try:
            with far:
                await self.channel.fork(spec, self.listener, far, pids.append)
        except BaseException:
            leash.close()
            raise
        said = int(await asyncio.get_running_loop().sock_recv(leash, 100))
        assert pids == [said]
        return said, leash

    async def exit_of(self, pid: int) -> int:
        """How the loop says that a worker has ended."""
        await until(lambda: any(gone == pid for gone, _ in self.exits))
        (code,) = [code for gone, code in self.exits if gone == pid]
        return code


@asynccontextmanager
async def yard() -> AsyncIterator[Yard]:
    made = Yard()
    try:
        async with asyncio.timeout(60):
            yield made
            made.channel.close()
            await asyncio.to_thread(made.process.wait)
    finally:
        made.channel.close()
        made.lifeline.close()
        made.process.kill()
        made.process.wait()
        made.listener.close()


@pytest.mark.parametrize(
    ("what", "code"), [("exit 0", 0), ("exit 5", 5), ("raise it", 70), ("return", 70)]
)
def test_a_worker_that_ends_is_reported_with_its_code(what: str, code: int) -> None:
    async def work() -> None:
        async with yard() as here:
            pid, leash = await here.fork(what)
            assert await here.exit_of(pid) == code
            leash.close()

    asyncio.run(work())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_is_killed_is_reported_with_the_signal(number: int) -> None:
    async def work() -> None:
        async with yard() as here:
            pid, leash = await here.fork("wait")
            os.kill(pid, number)
            assert await here.exit_of(pid) == -number
            leash.close()

    asyncio.run(work())


def test_many_workers_are_forked_at_once_and_each_death_is_reported_once() -> None:
    async def work() -> None:
        async with yard() as here:
            made = await asyncio.gather(*(here.fork(f"exit {number}") for number in range(40)))
            codes = [await here.exit_of(pid) for pid, _ in made]
            assert codes == list(range(40))
            assert len(here.exits) == 40
            for _, leash in made:
                leash.close()

    asyncio.run(work())


def test_what_a_worker_has_started_goes_with_it() -> None:
    async def work() -> None:
        async with yard() as here:
            pid, leash = await here.fork("child")
            child = int(await asyncio.get_running_loop().sock_recv(leash, 100))
            assert is_running(child)
            os.kill(pid, signal.SIGKILL)
            assert await here.exit_of(pid) == -signal.SIGKILL
            await until(lambda: not is_running(child))
            leash.close()

    asyncio.run(work())


def test_workers_live_on_when_the_loop_is_told_to_go() -> None:
    async def work() -> None:
        async with yard() as here:
            pid, leash = await here.fork("wait")
            here.channel.close()
            assert await asyncio.to_thread(here.process.wait) == 0
            assert is_running(pid)
            assert here.gone == 0  # whoever closed it knows
            leash.close()
            await until(lambda: not is_running(pid))

    asyncio.run(work())


def test_a_loop_that_dies_fails_the_forks_under_way_and_those_to_come() -> None:
    async def work() -> None:
        async with yard() as here:
            os.kill(here.process.pid, signal.SIGSTOP)
            waiting = [asyncio.create_task(here.fork("wait")) for _ in range(3)]
            await until(lambda: here.channel.under_way == 3)
            here.process.kill()
            done = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in done] == [ForkParentDied] * 3
            await until(lambda: here.gone == 1)
            assert not here.channel.alive
            with pytest.raises(ForkParentDied):
                await here.fork("wait")
            here.channel.exited()
            assert here.gone == 1

    asyncio.run(work())


def test_deaths_that_the_loop_told_before_its_own_are_heard() -> None:
    async def work() -> None:
        async with yard() as here:
            pid, leash = await here.fork("wait")
            asyncio.get_running_loop().remove_reader(here.channel._channel)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not Path(f"/proc/{pid}").exists())  # reaped: so it was told
            here.process.kill()
            await asyncio.to_thread(here.process.wait)
            here.channel.exited()
            assert (here.exits, here.gone) == ([(pid, -signal.SIGKILL)], 1)
            leash.close()

    asyncio.run(work())


def test_a_fork_that_nobody_waits_for_any_more_is_ended() -> None:
    async def work() -> None:
        async with yard() as here:
            os.kill(here.process.pid, signal.SIGSTOP)
            given_up = asyncio.create_task(here.fork("wait"))
            await until(lambda: here.channel.under_way == 1)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert here.channel.under_way == 0
            os.kill(here.process.pid, signal.SIGCONT)
            await until(lambda: len(here.exits) == 1)
            pid, leash = await here.fork("exit 0")
            assert await here.exit_of(pid) == 0
            leash.close()

    asyncio.run(work())


def test_a_channel_ends_also_when_somebody_else_holds_its_far_end() -> None:
    """As a process that the model's code has forked while loading does."""

    async def work() -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        exits: list[tuple[int, int]] = []
        ends: list[int] = []
        channel = ForkChannel(
            near,
            on_worker_exit=lambda pid, code: exits.append((pid, code)),
            on_gone=lambda: ends.append(1),
        )
        far.send(wire.encode(wire.Exited(77, -9)))
        channel.exited()
        channel.exited()
        assert (exits, ends, channel.alive, near.fileno()) == ([(77, -9)], [1], False, -1)
        far.close()

    asyncio.run(work())
