"""Work beside whoever began it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from handlers.errors import ModelLoadError
from model_server.errors import OutOfMemory
from model_server.tasks import Tasks


async def fail(error: BaseException) -> None:
    raise error


def test_work_goes_on_when_whoever_began_it_is_gone() -> None:
    done: list[int] = []

    async def work(gate: asyncio.Event) -> None:
        await gate.wait()
        done.append(1)

    async def main() -> None:
        tasks, gate = Tasks(), asyncio.Event()

        async def begin() -> None:
            await asyncio.shield(tasks.spawn(work(gate)))

        beginner = asyncio.create_task(begin())
        await asyncio.sleep(0)
        beginner.cancel()
        await asyncio.gather(beginner, return_exceptions=True)
        gate.set()
        await tasks.finished()

    asyncio.run(main())
    assert done == [1]


def test_finished_waits_for_what_is_begun_meanwhile() -> None:
    done: list[int] = []

    async def main() -> None:
        tasks = Tasks()

        async def work(depth: int) -> None:
            await asyncio.sleep(0)
            if depth:
                tasks.spawn(work(depth - 1))
            done.append(depth)

        tasks.spawn(work(5))
        await tasks.finished()
        await tasks.finished()

    asyncio.run(main())
    assert done == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [(RuntimeError("ours"), True), (OutOfMemory("full"), False), (ModelLoadError("no"), False)],
)
def test_only_errors_that_nobody_expects_are_logged(
    caplog: pytest.LogCaptureFixture, error: Exception, is_logged: bool
) -> None:
    async def main() -> None:
        tasks = Tasks()
        tasks.spawn(fail(error))
        await tasks.finished()
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert ("unexpected" in caplog.text) == is_logged


def test_a_task_that_is_cancelled_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        tasks = Tasks()
        task = tasks.spawn(asyncio.Event().wait())  # type: ignore[arg-type]
        task.cancel()
        await tasks.finished()

    asyncio.run(main())
    assert caplog.text == ""


def test_whoever_waits_hears_the_error() -> None:
    async def main() -> None:
        with pytest.raises(OutOfMemory):
            await Tasks().spawn(fail(OutOfMemory("full")))

    asyncio.run(main())
