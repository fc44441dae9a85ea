"""The second worker of a loaded model: how soon it is there, and what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.memory import steady
from benchmarks.models import Model
from benchmarks.processes import memory_of
from benchmarks.results import OURS
from benchmarks.servers import BenchmarkError, Server

TWO = "min_workers = 1\nmax_workers = 2\n"
ZYGOTES = {"MODELYARD_PRELOAD": "none"}  # as many as the model needs
NOT_SHARED = "share_weights = false\n"
ROUNDS = 9
SCALE_UPS = 2
LIMIT_SECONDS = 180
CLIENTS = 4


def second_worker(bench: Bench) -> None:
    """Weights that are mapped and such that are read, forked from the loaded model and not."""
    models = {"mapped": bench.models.large, "read from a pickle": bench.models.pickled}
    for kind, model in models.items():
        for how, settings in (("shared", TWO), ("not shared", TWO + NOT_SHARED)):
            name = f"{model.name}-{how.replace(' ', '-')}"
            variant = bench.models.variant(model, name, settings)
            _one(bench, variant, f"{kind}, {how}")
    for key in ("ready", "private"):
        cell = bench.results.cells["workers", "mapped, shared", key]
        bench.results.record(f"second-{key}", OURS, [cell])


def _one(bench: Bench, model: Model, row: str) -> None:
    bench.results.fill("workers", row, "ready", _inside(model, bench.rounds(ROUNDS)))
    waits, private, grown = [], [], []
    for _ in range(bench.rounds(SCALE_UPS)):
        with bench.ours(ZYGOTES) as server:
            server.load_and_invoke(model)
            before = steady(server).anonymous
            waits.append(_scale_up(server, model))
            grown.append(steady(server).anonymous - before)
            second = server.describe(model)["workers"][-1]
            private.append(memory_of(second["pid"]).dirty)
    bench.results.fill("workers", row, "private", private)
    bench.results.fill("workers", row, "grown", grown)
    bench.results.fill("workers", row, "scaled", waits)


def _inside(model: Model, rounds: int) -> list[float]:
    """In ms; see ``worker_times``."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker_times", str(model.directory), str(rounds)],
        stdout=subprocess.PIPE,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def _scale_up(server: Server, model: Model) -> float:
    """Ask until both workers have answered; ms until the second one took its first request."""
    deadline = time.perf_counter() + LIMIT_SECONDS
    begin, there = time.perf_counter(), 0.0
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(server.invoke, model) for _ in range(CLIENTS)]
        while time.perf_counter() < deadline:
            workers = server.describe(model)["workers"]
            if not there and len(workers) > 1 and workers[1]["requests"]:
                there = time.perf_counter()
            if there and all(worker["requests"] > worker["busy"] for worker in workers):
                break
            asked = [one for one in asked if not one.done()]
            asked += [pool.submit(server.invoke, model) for _ in range(CLIENTS - len(asked))]
            time.sleep(0.005)
        else:
            raise BenchmarkError(f"{model.name} got no second worker that answers")
    return 1000 * (there - begin)
