"""The memory of workers, measured beside the event loop.

Whoever reads of a process's memory keeps that memory in existence: if the process ends meanwhile,
the kernel frees it only when the reader is done, after the process can be waited for. So nobody is
told of a worker's end while it is being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from model_server import probe
from model_server.model import Worker


def private_bytes(worker: Worker) -> asyncio.Future[int]:
    """As ``probe.private_bytes``; giving up the wait does not give up the reading."""
    loop = asyncio.get_running_loop()
    reading = loop.run_in_executor(None, probe.private_bytes, worker.pid)
    worker.readings.add(reading)
    reading.add_done_callback(worker.readings.discard)
    return asyncio.shield(reading)


def when_freed(worker: Worker, then: Callable[[], None]) -> None:
    """Call it when the memory of a worker that has ended is free: mostly at once."""
    if worker.readings:
        # Added after the callback that discards it, so called after that.
        next(iter(worker.readings)).add_done_callback(lambda _: when_freed(worker, then))
    else:
        then()
