"""When models grow, others leave: as many as are needed, and where it is needed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from model_server.growth_relief import GrowthRelief
from model_server.memory.ledger import RAM
from model_server.model import Model
from model_server.processes.workers import Workers
from model_server.tasks import Tasks

from .test_accounts import MIB, Books, plan, process_holding, worker
from .test_memory_report import Ordered
from .watched import watched


def loaded(made: Ordered, name: str, megabytes: int, pinned: bool = False) -> Model:
    model = made.books.add(name, plan(pinned=pinned), worker(megabytes * MIB))
    made.books.accounts.settle(model)
    return model


def relief(made: Ordered, workers: Workers) -> GrowthRelief:
    return GrowthRelief(made.books.models, workers, made.books.accounts, made.room, Tasks())


def test_a_model_that_was_measured_to_have_grown_makes_another_leave(short_path: Path) -> None:
    async def work() -> None:
        async with watched(short_path) as here:
            made = Ordered(Books(limit=200 * MIB))
            loaded(made, "other", 150)
            with process_holding(64) as pid:
                grown = made.books.add("grown", plan(), worker(10 * MIB, pid))
                await relief(made, here.workers).measure(grown, grown.workers[0])
            assert made.victims == ["other"]
            (told,) = made.log.about("grown", 10)
            assert (told.cause, told.outcome) == ("growth", "evict")
            assert told.grew_bytes[RAM][1] >= 64 * MIB
            assert made.books.accounts.ledger().free_bytes >= 0

    asyncio.run(work())


def test_under_pressure_no_more_leave_than_are_needed(short_path: Path) -> None:
    async def work() -> None:
        async with watched(short_path) as here:
            made = Ordered()
            for number in range(3):
                loaded(made, f"m{number}", 300)
            grown = loaded(made, "grown", 50)
            grown.workers[0].grown_bytes = 200 * MIB
            assert relief(made, here.workers).relieve(150 * MIB)
            assert len(made.victims) == 1 and "grown" not in made.victims

    asyncio.run(work())


def test_when_nobody_may_leave_it_says_so(short_path: Path) -> None:
    async def work() -> None:
        async with watched(short_path) as here:
            made = Ordered()
            loaded(made, "pinned", 600, pinned=True)
            grown = loaded(made, "grown", 300)
            grown.workers[0].grown_bytes = 200 * MIB
            assert not relief(made, here.workers).relieve(100 * MIB)
            assert made.victims == []

    asyncio.run(work())


def test_nobody_leaves_ram_for_a_model_that_grew_within_what_is_free(short_path: Path) -> None:
    async def work() -> None:
        async with watched(short_path) as here:
            made = Ordered()
            loaded(made, "other", 300)
            with process_holding(64) as pid:
                grown = made.books.add("grown", plan(), worker(10 * MIB, pid))
                await relief(made, here.workers).measure(grown, grown.workers[0])
            assert made.victims == []
            assert grown.held_bytes >= 64 * MIB

    asyncio.run(work())
