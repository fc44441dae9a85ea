"""What loaded models cost in memory, and whether it comes back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.processes import Memory
from benchmarks.results import THEIRS
from benchmarks.servers import Contender, Server

STEPS = (0, 1, 10, 50, 200)
MOST_OF_THEIRS = 50  # multi-model-server takes 160 MiB for each
LOADS_AT_A_TIME = 4
STEADY_MIB = 1.0
STEADY_SECONDS = 20.0


def memory(bench: Bench) -> None:
    """Load up to 200 tiny torch models, unload all of them, stop with one loaded."""
    for contender in bench.contenders:
        most = 10 if bench.quick else MOST_OF_THEIRS if contender.name == THEIRS else STEPS[-1]
        _one_server(bench, contender, [step for step in STEPS if step <= most])


def _one_server(bench: Bench, contender: Contender, steps: list[int]) -> None:
    with bench.start(contender) as server:
        fresh = steady(server)
        server.warm_up(bench.models.tiny(0))
        taken = [_with_models(bench, server, step, after) for after, step in _pairs(steps)]
        _unload_all(bench, server, steps[-1])
        empty = steady(server)
        server.load(bench.models.tiny(0))
        left = server.stop()
    record = bench.results.record
    record("pss-fresh", server.name, [fresh.pss])
    for step, found in zip(steps, taken, strict=True):
        record(f"pss-{step}", server.name, [found.pss])
    few, many, base = taken[-2], taken[-1], taken[0]
    further = steps[-1] - steps[-2]
    record("pss-each", server.name, [(many.pss - few.pss) / further])
    record("private-each", server.name, [(many.private - few.private) / further])
    record("returned", server.name, [100 * (many.pss - empty.pss) / (many.pss - base.pss)])
    record("left", server.name, [left])


def _pairs(steps: list[int]) -> list[tuple[int, int]]:
    return list(zip([0, *steps], steps, strict=False))


def _with_models(bench: Bench, server: Server, step: int, after: int) -> Memory:
    """Load models until ``step`` are loaded, let each answer once, then look."""
    models = [bench.models.tiny(number) for number in range(after, step)]
    with ThreadPoolExecutor(LOADS_AT_A_TIME) as pool:
        list(pool.map(server.load_and_invoke, models))
    return steady(server)


def _unload_all(bench: Bench, server: Server, count: int) -> None:
    for number in range(count):
        server.unload(bench.models.tiny(number))


def steady(server: Server) -> Memory:
    """The memory once two looks half a second apart agree."""
    deadline = time.monotonic() + STEADY_SECONDS
    before, now = Memory(), server.tree.memory()
    while abs(now.pss - before.pss) > STEADY_MIB and time.monotonic() < deadline:
        time.sleep(0.5)
        before, now = now, server.tree.memory()
    return now
