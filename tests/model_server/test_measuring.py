"""Nobody is told of a worker's end while its memory is being read."""

from __future__ import annotations

import asyncio
import os
import socket

from model_server import measuring
from model_server.model import Worker

from .yard_parts import run


def _worker(leash: socket.socket) -> Worker:
    """One whose process is this one."""
    loop = asyncio.get_running_loop()
    future = loop.create_future
    return Worker(1, 0, memoryview(bytes(0)), leash, future(), future(), pid=os.getpid())


def test_memory_that_is_read_is_freed_afterwards() -> None:
    async def work() -> None:
        with socket.socket() as leash:
            worker = _worker(leash)
            freed: list[str] = []
            one, other = measuring.private_bytes(worker), measuring.private_bytes(worker)
            measuring.when_freed(worker, lambda: freed.append("now"))
            one.cancel()  # whoever waited has given up; the reading goes on
            assert freed == []
            assert await other > 0
            while worker.readings:
                await asyncio.wait(worker.readings)
            await asyncio.sleep(0)
            assert freed == ["now"]
            measuring.when_freed(worker, lambda: freed.append("at once"))
            assert freed == ["now", "at once"]

    run(work())
