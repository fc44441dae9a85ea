"""Work that goes on whatever goes wrong in it."""

from __future__ import annotations

import asyncio

import pytest

from model_server.background import Background, for_ever

from .yard_parts import run, until


def test_work_that_fails_is_begun_anew_and_the_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = 0

    async def looks_after_something() -> None:
        nonlocal begun
        begun += 1
        if begun < 4:
            raise OSError(f"failure {begun}")
        await asyncio.Event().wait()

    async def work() -> None:
        background = Background()
        background.begin(for_ever(looks_after_something, pause_seconds=0))
        await until(lambda: begun == 4)
        background.cancel()
        await until(lambda: not background._tasks)

    run(work())
    assert caplog.text.count("looks_after_something failed and begins anew") == 3
    assert all(f"failure {number}" in caplog.text for number in (1, 2, 3))


def test_work_with_an_end_that_fails_is_logged_and_not_begun_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise OSError("once")

    async def work() -> None:
        background = Background()
        background.begin(fails())
        await until(lambda: not background._tasks)

    run(work())
    assert caplog.text.count("background work failed: OSError('once')") == 1
