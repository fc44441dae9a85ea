"""How many containers start at a time."""

from __future__ import annotations

import asyncio

from endpoint.live.turns import Turns


def test_no_more_than_the_count_have_a_turn_at_once_and_all_get_one() -> None:
    async def check() -> None:
        turns, now, most, done = Turns(2), 0, 0, 0

        async def start() -> None:
            nonlocal now, most, done
            async with turns.one():
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1
                done += 1

        await asyncio.gather(*(start() for _ in range(9)))
        assert (most, done) == (2, 9)

    asyncio.run(check())


def test_who_takes_too_long_keeps_nobody_waiting_and_gives_one_turn_back_not_two() -> None:
    async def check() -> None:
        turns, over = Turns(1, seconds=0.01), asyncio.Event()

        async def hang() -> None:
            async with turns.one():
                await over.wait()

        hanging = [asyncio.create_task(hang()) for _ in range(3)]
        async with asyncio.timeout(60), turns.one():  # the fourth
            pass
        over.set()
        await asyncio.gather(*hanging)
        async with turns.one():
            second = asyncio.create_task(hang())
            await asyncio.sleep(0)
            assert not second.done()
            over.set()
        await second

    asyncio.run(check())


def test_a_start_that_is_cancelled_gives_its_turn_back() -> None:
    async def check() -> None:
        turns = Turns(1)

        async def hang() -> None:
            async with turns.one():
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(hang()) for _ in range(2)]  # one runs, one waits
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60), turns.one():
            pass

    asyncio.run(check())
