"""What looking after a thousand loaded models costs the controller."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.processes import cpu_seconds
from benchmarks.results import OURS
from benchmarks.servers import Server
from benchmarks.zipf import Traffic, ask

MODELS = 1000
QUICK_MODELS = 200
SIZE_BYTES = 4 << 10
SECONDS = 20
QUICK_SECONDS = 6
QUIET_SECONDS = 10  # after the loads; models that have served are measured once more
LOADS_AT_A_TIME = 4
PAUSE_MS = 400.0  # of 8 connections: 20 requests a second


def idle(bench: Bench) -> None:
    """First nobody asks for anything, then some models are asked now and then."""
    count = QUICK_MODELS if bench.quick else MODELS
    models = [bench.models.ballast(3000 + number, SIZE_BYTES) for number in range(count)]
    length = QUICK_SECONDS if bench.quick else SECONDS
    with bench.ours({"MODELYARD_PRELOAD": "python"}) as server:
        with ThreadPoolExecutor(LOADS_AT_A_TIME) as pool:
            list(pool.map(server.load, models))
        time.sleep(QUIET_SECONDS)
        before = cpu_seconds(server.pid)
        time.sleep(length)
        _record(bench, "idle-cpu", server, before, length)
        traffic = Traffic(models, exponent=1.0, pause_ms=PAUSE_MS)
        before = cpu_seconds(server.pid)
        ask(server, traffic, length, seed=1)
        _record(bench, "idle-cpu-traffic", server, before, length)


def _record(bench: Bench, key: str, server: Server, before: float, length: float) -> None:
    bench.results.record(key, OURS, [100 * (cpu_seconds(server.pid) - before) / length])
