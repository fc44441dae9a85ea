"""Ten times as many models as fit in memory, beside a server where all of them fit."""

from __future__ import annotations

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median

from benchmarks.bench import Bench
from benchmarks.models import Model
from benchmarks.residency import sampled
from benchmarks.results import OURS
from benchmarks.scraped import figures, room_for
from benchmarks.servers import Server
from benchmarks.zipf import Answers, Traffic, ask

MODELS = 300
QUICK_MODELS = 100
MEDIAN_BYTES = 4 << 20
SIGMA = 0.8
MOST_BYTES = 24 << 20  # a model must fit, and others beside it
FITS = 10  # of so many models one
EXPONENT = 1.1
HOT = range(1, 6)
PAUSES_MS = {"": 0.0, "paced": 200.0}
ROUNDS = 3
ROUND_SECONDS = 20
SAMPLED_SECONDS = 60
QUICK_SECONDS = 6
WARM_UP_SECONDS = 5
LOADS_AT_A_TIME = 4
ALL = "all in memory"
TENTH = "a tenth, `cost_aware`"
LRU = "a tenth, `lru`"
MIB = 1 << 20


def pressure(bench: Bench) -> None:
    """Rounds of the same traffic in turn, then a minute in which memory is looked at."""
    models = _models(bench)
    with ExitStack() as stack:
        servers = {ALL: stack.enter_context(_loaded(bench, models, {}))}
        limit = room_for(servers[ALL], 1 / FITS)
        tight = {"MODELYARD_MEMORY_LIMIT_BYTES": str(limit)}
        servers[TENTH] = stack.enter_context(_loaded(bench, models, tight))
        policy = {**tight, "MODELYARD_EVICTION_POLICY": "lru"}
        servers[LRU] = stack.enter_context(_loaded(bench, models, policy))
        for what, pause_ms in PAUSES_MS.items():
            _contest(bench, servers, Traffic(models, EXPONENT, pause_ms), what)
        _sampled(bench, servers[TENTH], Traffic(models, EXPONENT), limit)


def _models(bench: Bench) -> list[Model]:
    """In the order of their use, which says nothing of their size."""
    sizes = random.Random(4)
    count = QUICK_MODELS if bench.quick else MODELS
    return [
        bench.models.ballast(
            number, min(int(MEDIAN_BYTES * sizes.lognormvariate(0, SIGMA)), MOST_BYTES)
        )
        for number in range(count)
    ]


def _loaded(bench: Bench, models: list[Model], settings: dict[str, str]) -> Server:
    """A server where every model has been loaded and has answered, whatever came of it since."""
    server = bench.ours({"MODELYARD_PRELOAD": "python", **settings})
    try:
        with ThreadPoolExecutor(LOADS_AT_A_TIME) as pool:
            list(pool.map(server.load_and_invoke, models))
    except BaseException:
        server.stop()
        raise
    return server


def _contest(bench: Bench, servers: dict[str, Server], traffic: Traffic, what: str) -> None:
    """All servers in turn, a few times."""
    rounds: dict[str, list[Answers]] = defaultdict(list)
    columns: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds = QUICK_SECONDS if bench.quick else ROUND_SECONDS
    for server in servers.values():
        ask(server, traffic, WARM_UP_SECONDS, seed=0)
    for number in range(bench.rounds(ROUNDS)):
        for name, server in servers.items():
            before = figures(server)
            answers = ask(server, traffic, seconds, seed=number + 1)
            rounds[name].append(answers)
            for column, value in _columns(answers, before, figures(server)).items():
                columns[name][column].append(value)
    for name, found in columns.items():
        for column, values in found.items():
            bench.results.fill("pressure", ", ".join(filter(None, (name, what))), column, values)
    key = "-".join(filter(None, ("pressure-hot", what)))
    ratios = [
        few.latency(0.99, HOT) / all_of_them.latency(0.99, HOT)
        for few, all_of_them in zip(rounds[TENTH], rounds[ALL], strict=True)
    ]
    bench.results.record(key, OURS, ratios)


def _columns(
    answers: Answers, before: dict[str, float], after: dict[str, float]
) -> dict[str, float]:
    returns, seconds = (
        after.get(f"modelyard_reload_seconds_{name}", 0.0)
        - before.get(f"modelyard_reload_seconds_{name}", 0.0)
        for name in ("count", "sum")
    )
    everything = range(1, 1 + MODELS)
    return {
        "rate": answers.rate,
        "hot-p50": answers.latency(0.5, HOT),
        "hot-p99": answers.latency(0.99, HOT),
        "p99": answers.latency(0.99, everything),
        "returns": 1000 * returns / len(answers.rows),
        "reload": 1000 * seconds / len(answers.rows),
        "errors": answers.with_status(400),
    }


def _sampled(bench: Bench, server: Server, traffic: Traffic, limit: int) -> None:
    """Memory costs time to look at, so this is not the time that latencies are taken from."""
    seconds = QUICK_SECONDS if bench.quick else SAMPLED_SECONDS
    with sampled(server.pid, seconds) as seen:
        answers = ask(server, traffic, seconds, seed=100)
    bench.results.record("pressure-errors", OURS, [answers.with_status(500)])
    bench.results.record("pressure-memory", OURS, [100 * max(seen) * MIB / limit])
    bench.results.record("pressure-memory-p50", OURS, [100 * median(seen) * MIB / limit])
    bench.results.record("pressure-looks", OURS, [seconds / len(seen) * 1000])
