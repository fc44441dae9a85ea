"""The controller's side of zygotes, with real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_server import wire
from model_server.environments.environments import Environment
from model_server.errors import EnvironmentFailed, ServerUnavailable
from model_server.processes.fork_channel import ForkParentDied

from ...contract.endpoint import Endpoint
from ...contract.polling import eventually
from ...contract.processes import is_running
from ...contract.server import OwnServer
from .. import inside
from ..traffic import Traffic
from ..yard_parts import nursery, run, until

Shared = tuple[OwnServer, Endpoint]


def broken(directory: Path, module: str, code: str) -> dict[str, str]:
    """An environment in which importing ``module`` runs ``code`` instead."""
    package = directory / "shadows" / module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    return {"PYTHONPATH": str(package.parent)}


def test_a_fork_is_a_worker_that_serves(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("echo")
            assert isinstance(worker.word, wire.WorkerReady)
            assert worker.word.private_bytes > 0
            head, body = await worker.ask(b"hello")
            assert (head.status, body) == (200, b"hello")
            assert os.getpgid(worker.pid) == worker.pid
            assert inside.parent_of(worker.pid) == yard.zygotes.get("python").pid
            worker.leash.close()

    run(work())


def test_forks_at_once_are_as_many_workers(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            (await yard.fork()).leash.close()
            workers = await asyncio.gather(*(yard.fork() for _ in range(40)))
            assert len({worker.pid for worker in workers}) == 40
            assert all(isinstance(worker.word, wire.WorkerReady) for worker in workers)
            for worker in workers:
                worker.leash.close()
            await until(lambda: len(yard.exits) >= 40)
            assert {code for _, code in yard.exits} == {0}

    run(work())


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda worker: worker.leash.close(), 0),
        (lambda worker: os.kill(worker.pid, signal.SIGKILL), -signal.SIGKILL),
        (lambda worker: os.kill(worker.pid, signal.SIGTERM), -signal.SIGTERM),
        (lambda worker: os.kill(worker.pid, signal.SIGSEGV), -signal.SIGSEGV),
    ],
    ids=["told to leave", "SIGKILL", "SIGTERM", "SIGSEGV"],
)
def test_the_end_of_a_worker_is_reported_with_its_code(
    tmp_path: Path, end: Callable[[object], None], code: int
) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork()
            end(worker)
            await until(lambda: yard.exits == [(worker.pid, code)])
            worker.leash.close()

    run(work())


def test_a_load_that_fails_is_told_and_its_process_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("raises_on_load")
            assert isinstance(worker.word, wire.WorkerFailed)
            assert "raised" in worker.word.problem.message
            await until(lambda: yard.code_of(worker.pid) == 3)
            worker.leash.close()

    run(work())


def test_a_zygote_that_is_killed_while_it_forks_is_replaced(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            (await yard.fork()).leash.close()
            first = yard.zygotes.get("python")
            os.kill(first.pid, signal.SIGSTOP)
            asked = asyncio.create_task(yard.fork())
            await until(lambda: bool(first._forks))
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(ForkParentDied):
                await asked
            worker = await yard.fork()
            assert (await worker.ask(b"x"))[1] == b"x"
            assert inside.parent_of(worker.pid) == yard.zygotes.get("python").pid != first.pid
            worker.leash.close()

    run(work())


def test_a_warm_zygote_that_dies_is_replaced_before_anybody_asks(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            first = yard.zygotes.get("python")
            await first.wait_ready()
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: not first.alive)
            assert yard.zygotes.warm_bytes.keys() == {"python"}
            await yard.zygotes.get("python").wait_ready()
            assert yard.zygotes.private_bytes > 0

    run(work())


def test_workers_outlive_their_zygote_and_their_end_is_still_heard_of(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork()
            os.kill(yard.zygotes.get("python").pid, signal.SIGKILL)
            await until(lambda: inside.parent_of(worker.pid) == os.getpid())
            assert (await worker.ask(b"x"))[1] == b"x"
            os.kill(worker.pid, signal.SIGTERM)
            await until(lambda: (worker.pid, -signal.SIGTERM) in yard.adopted)
            worker.leash.close()

    run(work())


def test_a_fork_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            (await yard.fork()).leash.close()
            await until(lambda: len(yard.exits) == 1)
            zygote = yard.zygotes.get("python")
            os.kill(zygote.pid, signal.SIGSTOP)
            asked = asyncio.create_task(yard.fork())
            await until(lambda: zygote._forks.under_way == 1)
            asked.cancel()
            os.kill(zygote.pid, signal.SIGCONT)
            await until(lambda: len(yard.exits) == 2)
            assert not is_running(yard.exits[1][0])

    run(work())


def test_a_framework_that_cannot_be_imported_is_said_with_the_reason(tmp_path: Path) -> None:
    environment = broken(tmp_path, "sklearn", "raise RuntimeError('this library is broken')")

    async def work() -> None:
        async with nursery(tmp_path, environment) as yard:
            for _ in range(2):
                with pytest.raises(ServerUnavailable, match="RuntimeError: this library is broken"):
                    await yard.zygotes.get("sklearn").wait_ready()
            await yard.zygotes.preload(("sklearn", "python"), None)
            assert "python" in yard.zygotes.warm_bytes

    run(work())


def test_a_framework_that_a_models_requirements_break_is_the_models_fault(tmp_path: Path) -> None:
    environment = broken(tmp_path, "sklearn", "raise RuntimeError('another numpy')")

    async def work() -> None:
        async with nursery(tmp_path, environment) as yard:
            own = Environment("0123456789abcdef", sys.executable)
            with pytest.raises(EnvironmentFailed, match=r"requirements.*another numpy") as caught:
                await yard.zygotes.get("sklearn", own).wait_ready()
            assert caught.value.problem().status == 500

    run(work())


def test_a_framework_whose_import_ends_the_process_is_said_with_the_code(tmp_path: Path) -> None:
    environment = broken(tmp_path, "sklearn", "import os; os._exit(9)")

    async def work() -> None:
        async with nursery(tmp_path, environment) as yard:
            with pytest.raises(
                ServerUnavailable, match=r"sklearn zygote.*(exited with code 9|hung)"
            ):
                await yard.zygotes.get("sklearn").wait_ready()

    run(work())


def test_preloading_stops_where_the_budget_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            await yard.zygotes.preload(("python", "sklearn"), 40 << 20)
            assert yard.zygotes.warm_bytes.keys() == {"python"}

    run(work())


def test_zygotes_have_one_thread_and_are_the_kernels_first_victims(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("reports_process")
            for pid in (worker.pid, yard.zygotes.get("python").pid):
                assert "Threads:\t1\n" in told(pid, "status")
                assert told(pid, "oom_score_adj") == "500\n"
            worker.leash.close()

    run(work())


def told(pid: int, name: str) -> str:
    """What the kernel tells of a process."""
    return Path(f"/proc/{pid}/{name}").read_text()


def test_closing_the_pool_ends_all_zygotes_and_closing_again_harms_nobody(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            zygote = yard.zygotes.get("python")
            await zygote.wait_ready()
            yard.zygotes.close()
            await until(lambda: not is_running(zygote.pid))
            yard.zygotes.close()

    run(work())


def test_a_zygote_that_is_killed_in_a_server_costs_no_request_and_no_load(shared: Shared) -> None:
    own, endpoint = shared
    name = endpoint.loaded("echo")
    with Traffic(own, name) as traffic:
        before = inside.zygotes(own)
        for pid in before:
            inside.kill(pid)
        assert endpoint.load("echo", "another").status_code == 200
        orphans = inside.pids(endpoint, name)
        assert eventually(lambda: len(inside.zygotes(own) - before - orphans) == len(before))
        traffic.wait_for_more(20)
    assert traffic.failed == 0
    (orphan,) = inside.pids(endpoint, name)
    inside.kill(orphan)
    assert endpoint.invoke(name, b"x").content == b"x"
    assert inside.pids(endpoint, name).isdisjoint({orphan})
