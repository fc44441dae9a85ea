"""Computing threads of a model's process: what more than one costs when all models compute."""

from __future__ import annotations

import http.client
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from statistics import quantiles
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.models import Model
from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

THREADS = (1, 2, 4)
MODELS = 8
ROWS = 16
ROUNDS = 3
ROUND_SECONDS = 3.0
WARM_UP_SECONDS = 0.5


class Round(NamedTuple):
    """Rows per second, and latencies in ms."""

    rate: float
    p50: float
    p99: float


def threads(bench: Bench) -> None:
    """Eight models asked at once, and one alone, with 1, 2 and 4 threads in turn."""
    found = defaultdict(list)
    with bench.ours() as server:
        models = {count: _load(bench, server, count) for count in THREADS}
        crowds = [(count, some) for count in THREADS for some in (models[count], models[count][:1])]
        for _, crowd in crowds:
            _ask_all(server, crowd, WARM_UP_SECONDS)
        for _ in range(bench.rounds(ROUNDS)):
            for count, crowd in crowds:
                taken = _ask_all(server, crowd, 1.0 if bench.quick else ROUND_SECONDS)
                found[count, len(crowd)].append(taken)
    for count in THREADS:
        _record(bench, str(count), found[count, MODELS], "")
        _record(bench, str(count), found[count, 1], "-alone")


def _load(bench: Bench, server: Server, count: int) -> list[Model]:
    """Models with weights of their own, the same for each number of threads."""
    body = bench.models.pictures(ROWS)
    models = []
    for number in range(MODELS):
        own = bench.models.variant(bench.models.mlp_npy, f"own-{number}", own_files=True)
        model = bench.models.variant(own, f"threads-{count}-{number}", f"threads = {count}\n")
        models.append(replace(model, body=body))
        server.load_and_invoke(models[-1])
    return models


def _ask_all(server: Server, models: Sequence[Model], seconds: float) -> Round:
    """One client for each model, which asks again as soon as it has its answer."""
    deadline = time.perf_counter() + seconds
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(models)) as pool:
        each = list(pool.map(lambda model: _ask(server, model, deadline), models))
    taken = time.perf_counter() - begin
    latencies = list(chain.from_iterable(each))
    parts = quantiles(latencies, n=100, method="inclusive")
    return Round(ROWS * len(latencies) / taken, parts[49], parts[98])


def _ask(server: Server, model: Model, deadline: float) -> list[float]:
    """Latencies in ms."""
    latencies = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REQUEST_SECONDS)
    try:
        while time.perf_counter() < deadline:
            begin = time.perf_counter()
            headers = {"Content-Type": model.content_type, "Accept": model.content_type}
            connection.request("POST", f"/models/{model.name}/invoke", model.body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise BenchmarkError(f"{model.name} answered {response.status}: {answer[:300]!r}")
            latencies.append(1000 * (time.perf_counter() - begin))
    finally:
        connection.close()
    return latencies


def _record(bench: Bench, row: str, rounds: list[Round], suffix: str) -> None:
    fill = bench.results.fill
    fill("threads", row, f"rate{suffix}", [one.rate for one in rounds])
    fill("threads", row, f"p50{suffix}", [one.p50 for one in rounds])
    if not suffix:
        fill("threads", row, "p99", [one.p99 for one in rounds])
