"""Uses counted, growth seen, overruns stopped: with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from model_server.errors import ProblemError
from model_server.memory.ledger import RAM
from model_server.model import Model, State

from .watched import MIB, Watched, watched
from .yard_parts import run, until

Play = Callable[[Watched], Coroutine[Any, Any, None]]


def play(directory: Path, work: Play) -> None:
    """Run it with a watch's parts."""

    async def all_of_it() -> None:
        async with watched(directory) as here:
            await work(here)

    run(all_of_it())


async def looking(here: Watched, model: Model, body: bytes) -> str:
    """Send a request while the watch looks on; why it got no answer."""
    watch = here.watch()
    looks = asyncio.ensure_future(watch.run())
    try:
        problem = await here.told(model, body)
    finally:
        looks.cancel()
        watch.close()
    assert problem is not None and problem.status == 507, problem
    return problem.message


def _finished(model: Model) -> int:
    """A request is counted when its answer is on its way."""
    return model.counted().finished


def test_uses_are_counted_for_each_model(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        one, other = await here.load("echo"), await here.load("echo")
        watch = here.watch()
        await watch.look()
        assert here.used == []
        for _ in range(3):
            await here.ask(one)
        await here.ask(other)
        await until(lambda: [_finished(each) for each in (one, other)] == [3, 1])
        await watch.look()
        assert sorted(here.used) == sorted([(one.name, 3), (other.name, 1)])
        await watch.look()
        assert len(here.used) == 2
        watch.close()

    play(short_path, work)


def test_growth_is_told_once_and_again_when_there_is_more(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told")
        (worker,) = model.workers
        watch = here.watch()
        await watch.look()
        await here.ask(model, b"numpy 60")
        await watch.look()
        await watch.look()
        (name, size), *more = here.growths
        assert name == model.name and not more
        assert 55 * MIB < size - worker.private_bytes < 70 * MIB
        assert abs(worker.grown_bytes - (size - worker.private_bytes)) < 2 * MIB
        await here.ask(model, b"bytes 60")
        await watch.look()
        assert len(here.growths) == 2 and here.growths[1][1] > size + 50 * MIB
        watch.close()

    play(short_path, work)


def test_after_a_measurement_growth_counts_from_there(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told")
        (worker,) = model.workers
        watch = here.watch()
        await watch.look()
        await here.ask(model, b"numpy 60")
        worker.private_bytes += 60 * MIB
        await watch.look()
        assert here.growths == [] and worker.grown_bytes == 0
        watch.close()

    play(short_path, work)


def test_a_request_that_outgrows_the_models_limit_is_507_and_says_the_sizes(
    short_path: Path,
) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told", f"max_memory_bytes = {50 * MIB}")
        message = await looking(here, model, b"shared 300")
        assert "more than its limit of 50 MiB" in message and "max_memory_bytes" in message
        assert here.deaths == [(model, -signal.SIGKILL)]
        assert not model.workers

    play(short_path, work)


def test_an_idle_model_that_grows_beyond_its_limit_is_stopped(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        flag = short_path / "grow"
        settings = f"max_memory_bytes = {40 * MIB}"
        model = await here.load("grows_while_idle", settings, FLAG=flag, MIB=90)
        quiet = await here.load("echo")
        (worker,) = model.workers
        watch = here.watch()
        looks = asyncio.ensure_future(watch.run())
        flag.touch()
        async with asyncio.timeout(60):
            await worker.exited
        looks.cancel()
        watch.close()
        assert worker.verdict is not None and worker.verdict.status == 507
        assert [each for each, _ in here.deaths] == [model] and quiet.workers

    play(short_path, work)


def test_a_load_that_outgrows_the_models_limit_is_507(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        settings = f"max_memory_bytes = {50 * MIB}"
        model = here.model("grows_as_told", settings, LOAD="shared 500")
        watch = here.watch()
        looks = asyncio.ensure_future(watch.run())
        with pytest.raises(ProblemError) as told:
            await here.start(model)
        looks.cancel()
        watch.close()
        assert told.value.status == 507
        assert "while it loaded, more than its limit of 50 MiB" in told.value.message

    play(short_path, work)


def test_the_one_that_has_grown_most_pays_when_nobody_can_help(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        big = await here.load("allocates_100mb")
        leaks = await here.load("grows_as_told")
        some = await here.load("grows_as_told")
        here.limit_bytes = here.ledger().held_bytes + 100 * MIB
        watch = here.watch()
        await watch.look()
        await here.ask(some, b"bytes 40")
        await here.ask(leaks, b"bytes 50")
        await watch.look()
        assert here.pressures == []
        message = await looking(here, leaks, b"bytes 400 stay")
        assert "grew from" in message and "100 MiB" not in message
        assert here.pressures and max(here.pressures) > 0
        assert [model for model, _ in here.deaths] == [leaks]
        assert big.workers and some.workers
        watch.close()

    play(short_path, work)


def test_while_others_can_leave_nobody_is_stopped(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told")
        here.limit_bytes, here.relief = here.ledger().held_bytes + 20 * MIB, True
        watch = here.watch()
        await watch.look()
        await here.ask(model, b"bytes 60")
        await watch.look()
        assert len(here.pressures) == 1 and 35 * MIB < here.pressures[0] < 60 * MIB
        assert model.workers[0].verdict is None
        watch.close()

    play(short_path, work)


def test_near_the_kernels_limit_there_is_no_waiting_for_others(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told")
        here.limit_bytes, here.relief = here.ledger().held_bytes + 20 * MIB, True
        here.ceiling_bytes = here.limit_bytes + 10 * MIB
        watch = here.watch()
        await watch.look()
        await here.ask(model, b"bytes 60")
        await watch.look()
        assert here.pressures == []
        assert model.workers[0].verdict is not None
        await model.workers[0].gone()
        await watch.look()
        assert len(here.deaths) == 1
        watch.close()

    play(short_path, work)


def test_what_a_load_was_reserved_for_is_no_growth(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        flag = short_path / "never"
        await here.load("grows_while_idle", FLAG=flag, MIB=1)
        here.limit_bytes = here.ledger().held_bytes + 130 * MIB
        model = here.model("allocates_100mb")
        model.hold({RAM: 120 * MIB})
        watch = here.watch()
        looks = asyncio.ensure_future(watch.run())
        await here.start(model)
        looks.cancel()
        watch.close()
        assert here.pressures == [] and not here.deaths

    play(short_path, work)


def test_weights_that_are_being_parked_are_no_growth(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        model = await here.load("grows_as_told")
        (worker,) = model.workers
        before = worker.private_bytes
        model.move(State.EVICTING)
        model.leaves = ("gpu0",)
        model.hold({RAM: before + 110 * MIB, "gpu0": 100 * MIB})
        here.limit_bytes = model.held_bytes + 50 * MIB
        watch = here.watch()
        await watch.look()
        await here.ask(model, b"bytes 100")
        await watch.look()
        assert worker.private_bytes == before and worker.grown_bytes < 2 * MIB
        assert here.pressures == [] and worker.verdict is None
        watch.close()

    play(short_path, work)


def test_descriptors_come_back_when_workers_go(short_path: Path) -> None:
    async def work(here: Watched) -> None:
        watch = here.watch()
        before = None
        for _ in range(3):
            model = await here.load("echo")
            await watch.look()
            await here.workers.end(model, drain=False)
            here.models.remove(model)
            assert model.listener is not None
            model.listener.close()
            await watch.look()
            after = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            assert before in (None, after)
            before = after
        watch.close()

    play(short_path, work)
