"""Workers that leave their GPU or come back: the order goes out on the leash, the answer comes back
on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from model_server import wire
from model_server.errors import ModelTimeout, Problem, ProblemError, WorkerDied
from model_server.model import Worker


class Moves:
    """Moves under way. ``death(code, meanwhile)`` says what became of a worker that died."""

    def __init__(self, death: Callable[[int, str], Problem]) -> None:
        self._death = death
        self._under_way: dict[Worker, asyncio.Future[wire.Moved]] = {}

    def __contains__(self, worker: Worker) -> bool:
        """Whether a worker is to say how its move went."""
        return worker in self._under_way

    def heard(self, worker: Worker, word: wire.Moved) -> None:
        """A worker has moved, or not."""
        worker.private_bytes = word.private_bytes
        moved = self._under_way.get(worker)
        if moved is not None and not moved.done():
            moved.set_result(word)

    async def move(
        self, workers: Sequence[Worker], order: wire.WorkerOrder, limit_seconds: float
    ) -> None:
        """Return when all have moved. Raises ServerError when one of them has not."""
        moves = (self._move(worker, order, limit_seconds) for worker in workers)
        for outcome in await asyncio.gather(*moves, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _move(self, worker: Worker, order: wire.WorkerOrder, limit_seconds: float) -> None:
        moved = self._under_way[worker] = asyncio.get_running_loop().create_future()
        either: list[asyncio.Future[Any]] = [moved, worker.exited]
        try:
            worker.leash.send(wire.encode(order))
            await asyncio.wait(either, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            raise WorkerDied("the model's process does not listen any more") from None
        finally:
            del self._under_way[worker]
        if moved.done():
            _check(moved.result())
        elif worker.exited.done():
            problem = self._death(worker.exited.result(), "while its weights were moved")
            raise ProblemError(worker.verdict or problem)
        else:
            raise ModelTimeout(f"moving the weights took more than {limit_seconds:g} seconds")


def _check(word: wire.Moved) -> None:
    if word.problem is not None:
        raise ProblemError(word.problem)
