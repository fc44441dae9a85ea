"""Runs what a model's ``async`` functions return, from the worker's one synchronous thread.

There is one event loop in a process, made when the first coroutine has to be run and kept between
calls, so that sessions opened while loading work in requests. It turns only while a function of
the model is being waited for. A model without ``async`` functions never has one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import Runner

_runners: list[Runner] = []  # none or one


def settled(value: Any) -> Any:
    """The value itself, or what it comes to if it has to be awaited."""
    kind: Any = type(value)
    return _wait_for(value) if _can_be_awaited(kind) else value


@lru_cache(maxsize=256)  # asked for each value that a model returns, of few types
def _can_be_awaited(kind: type[object]) -> bool:
    return hasattr(kind, "__await__")


def iterated(generator: Any) -> Generator[Any, None, None]:
    """The items of an async generator or iterator; closing this closes it."""
    try:
        while True:
            try:
                item = _wait_for(generator.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        if hasattr(generator, "aclose"):
            _wait_for(generator.aclose())


def has_event_loop() -> bool:
    """Whether this process has run a coroutine, so that a fork would share its event loop."""
    return bool(_runners)


def close_event_loop() -> None:
    """Cancel what still waits on the loop, and forget it. Does nothing where there is none."""
    while _runners:
        _runners.pop().close()


def _wait_for(awaitable: Awaitable[Any]) -> Any:
    loop = _runner().get_loop()
    if loop.is_closed():  # by the model's code
        _runners.clear()
        loop = _runner().get_loop()
    return loop.run_until_complete(awaitable)


def _runner() -> Runner:
    if not _runners:
        import asyncio  # costs memory that most models need not spend

        _runners.append(asyncio.Runner())
    return _runners[0]
