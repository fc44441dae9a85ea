"""Computing threads of a model's process: what more than one costs when all models compute."""

from __future__ import annotations

import http.client
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from statistics import quantiles
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.models import Model
from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

MODELS = 8
ROWS = 16
ROUNDS = 3
ROUND_SECONDS = 2.0
WARM_UP_SECONDS = 0.5
ZYGOTES = {"MODELYARD_PRELOAD": "pytorch"}


class Round(NamedTuple):
    """Rows per second, and latencies in ms."""

    rate: float
    p50: float
    p99: float


class Setup(NamedTuple):
    """How a row of the table is run."""

    row: str
    threads: int
    environment: Mapping[str, str] = {}


SETUPS = (
    Setup("1", 1),
    Setup("2", 2),
    Setup("4", 4),
    # As OpenMP does it where nobody says otherwise: threads that wait go on computing nothing.
    Setup("2, spinning", 2, {"OMP_WAIT_POLICY": "ACTIVE"}),
)


def threads(bench: Bench) -> None:
    """Eight models asked at once, and one alone, with each setup in turn."""
    found = defaultdict(list)
    with ExitStack() as stack:
        crowds = []
        for setup in SETUPS:
            server = stack.enter_context(bench.ours({**setup.environment, **ZYGOTES}))
            models = _load(bench, server, setup.threads)
            crowds += [(setup, server, some) for some in (models, models[:1])]
        for _, server, crowd in crowds:
            _ask_all(server, crowd, WARM_UP_SECONDS)
        for _ in range(bench.rounds(ROUNDS)):
            for setup, server, crowd in crowds:
                taken = _ask_all(server, crowd, 1.0 if bench.quick else ROUND_SECONDS)
                found[setup.row, len(crowd)].append(taken)
    for setup in SETUPS:
        _record(bench, setup.row, found[setup.row, MODELS], "")
        _record(bench, setup.row, found[setup.row, 1], "-alone")


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
