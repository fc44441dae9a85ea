"""Requests that come while something else happens."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.endpoint.user import Reply, until


class Traffic:
    """What came of the requests of ``traffic``."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.errors: list[Exception] = []

    def more(self, count: int = 20) -> None:
        """Return when so many more requests have been answered."""
        wanted = len(self.replies) + count
        until(lambda: len(self.replies) >= wanted or self.errors)

    def check(self) -> None:
        """Every request was answered."""
        assert self.replies
        assert not self.errors, (len(self.errors), self.errors[0])


@contextmanager
def traffic(invoke: Callable[[int], Reply], threads: int = 3) -> Iterator[Traffic]:
    """Have threads call it with numbers, one call after the other, while the block runs."""
    seen, over, numbers = Traffic(), threading.Event(), itertools.count()

    def send() -> None:
        while not over.is_set():
            try:
                seen.replies.append(invoke(next(numbers)))
            except Exception as error:
                seen.errors.append(error)

    workers = [threading.Thread(target=send) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        over.set()
        for worker in workers:
            worker.join()
