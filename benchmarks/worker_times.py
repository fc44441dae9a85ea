"""Times further workers from inside: ``python -m benchmarks.worker_times MODEL_DIR ROUNDS``.

Prints, as JSON, how many ms passed each time from asking for a second worker until it was ready.
Nobody outside can see when the server asks. So this runs the controller's own parts, with nothing
between the question and the answer, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from handlers.inspection import inspect_model
from model_server import model_sockets
from model_server.model import Model
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.processes.workers import Workers
from model_server.processes.zygotes import ZygotePool
from model_server.settings import Settings
from model_server.stats import StatsTable

LIMIT_SECONDS = 120


async def measure(model_dir: Path, rounds: int, scratch: Path) -> list[float]:
    """Load the model; start another worker and let it go, ``rounds`` times."""
    settings = Settings()
    plan = await asyncio.to_thread(inspect_model, model_dir, settings.handler_options)
    model = Model("model", str(model_dir), plan, str(scratch / "model.sock"))
    taken = []
    async with _workers(settings, scratch) as workers:
        listener = model_sockets.listen(model, settings.queue_size)
        try:
            await workers.start(model, listener)
            for _ in range(rounds):
                begin = time.perf_counter()
                await workers.start(model, listener)
                taken.append(1000 * (time.perf_counter() - begin))
                second = model.workers[-1]
                second.leaving = True
                second.cut_leash()
                await second.gone()
        finally:
            await workers.end(model, drain=False)
            model_sockets.close(model)
    return taken


@asynccontextmanager
async def _workers(settings: Settings, scratch: Path) -> AsyncIterator[Workers]:
    lifeline = Lifeline()
    children = Children(on_adopted_exit=lambda pid, code: workers.told_of_exit(pid, code))
    children.watch(asyncio.get_running_loop())
    stats_file = scratch / "stats"
    stats = StatsTable.create(stats_file)
    zygotes = ZygotePool(
        settings,
        children,
        lifeline_fd=lifeline.read_fd,
        stats_path=str(stats_file),
        environment=os.environ,
        on_worker_exit=lambda pid, code: workers.told_of_exit(pid, code),
    )
    workers = Workers(settings, stats, zygotes, lambda *_: None)
    try:
        yield workers
    finally:
        zygotes.close()
        lifeline.close()


def main(model_dir: str, rounds: str) -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as scratch:
        work = measure(Path(model_dir), int(rounds), Path(scratch))
        print(json.dumps(asyncio.run(asyncio.wait_for(work, LIMIT_SECONDS))))


if __name__ == "__main__":
    main(*sys.argv[1:])
