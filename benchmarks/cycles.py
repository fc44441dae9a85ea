"""Ten thousand loads and unloads, evictions among them: is anything left behind?"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, seconds
from benchmarks.memory import steady
from benchmarks.models import Model
from benchmarks.processes import descriptors
from benchmarks.results import OURS
from benchmarks.returns import wait_until_warm
from benchmarks.scraped import figures, room_for
from benchmarks.servers import Server

CYCLES = 10_000
QUICK_CYCLES = 400
WARM_UP_SHARE = 10  # one cycle in so many, before anything is looked at
AT_A_TIME = 4
SIZE_BYTES = 64 << 10
STAYING = 8
ROOM = 9  # models: fewer than stay, come and go
RETURN_EACH = 5  # cycles
MIB = 1 << 20


@dataclass(frozen=True)
class Left:
    """What the server holds with no model loaded: MiB, descriptors, files of its run directory."""

    memory: float
    descriptors: int
    files: int


def cycles(bench: Bench) -> None:
    """Four clients load and unload a model each; others are evicted for them and come back."""
    count = QUICK_CYCLES if bench.quick else CYCLES
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        run_dir = Path(scratch) / "run"
        settings = {
            "MODELYARD_PRELOAD": "python",
            "MODELYARD_RUN_DIR": str(run_dir),
            "MODELYARD_MEMORY_LIMIT_BYTES": str(_limit(bench)),
        }
        with bench.ours(settings) as server:
            wait_until_warm(server, 1)
            _work(bench, server, count // WARM_UP_SHARE)
            before = _left(server, run_dir)
            taken = seconds(_work, bench, server, count - count // WARM_UP_SHARE)
            after = _left(server, run_dir)
            evicted = figures(server)["modelyard_evictions_total"]
            server.stop()
            stayed = sum(1 for _ in Path(scratch).rglob("*"))
    record = bench.results.record
    record("cycles-ms", OURS, [1000 * taken / (count - count // WARM_UP_SHARE)])
    record("cycles-evictions", OURS, [evicted])
    record("cycles-memory", OURS, [after.memory - before.memory])
    record("cycles-descriptors", OURS, [after.descriptors - before.descriptors])
    record("cycles-files", OURS, [after.files - before.files + stayed])


def _limit(bench: Bench) -> int:
    """Room for so many models."""
    model = bench.models.ballast(0, SIZE_BYTES)
    with bench.ours({"MODELYARD_PRELOAD": "python"}) as server:
        wait_until_warm(server, 1)
        server.load_and_invoke(model)
        return room_for(server, ROOM)


def _work(bench: Bench, server: Server, count: int) -> None:
    """So many loads and unloads. Ends with no model loaded."""
    models = [bench.models.ballast(number, SIZE_BYTES) for number in range(STAYING + AT_A_TIME)]
    staying, coming = models[:STAYING], models[STAYING:]
    for model in staying:
        server.load(model)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for _ in pool.map(lambda model: _cycle(server, model, staying, count // AT_A_TIME), coming):
            pass
    for model in staying:
        server.unload(model)


def _cycle(server: Server, model: Model, staying: Sequence[Model], count: int) -> None:
    chance = random.Random(model.name)
    for number in range(count):
        server.load(model)
        if number % RETURN_EACH == 0:
            server.invoke(model)
            server.invoke(chance.choice(staying))
        server.unload(model)


def _left(server: Server, run_dir: Path) -> Left:
    time.sleep(1.0)
    memory = steady(server).anonymous
    members = server.tree.alive()
    count = sum(descriptors(process.pid) for process in members)
    return Left(memory, count, sum(1 for _ in run_dir.rglob("*")))
