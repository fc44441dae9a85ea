"""How long it takes until a server, a model, a large model and fifty models answer."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Executor, ThreadPoolExecutor

from benchmarks.bench import Bench, milliseconds, seconds
from benchmarks.models import Model
from benchmarks.servers import Server

AT_ONCE = 50


def start(bench: Bench) -> None:
    """Start, first 200 from /ping, stop."""
    samples = defaultdict(list)
    for _ in range(bench.rounds(5)):
        for contender in bench.contenders:
            with bench.start(contender) as server:
                samples[server.name].append(server.start_seconds)
    for name, taken in samples.items():
        bench.results.record("start", name, taken)


def tiny(bench: Bench) -> None:
    """One tiny torch model after the other: load, two answers, unload."""
    steps = ("tiny-load", "tiny-first", "tiny-second", "tiny-unload")
    samples: dict[str, list[list[float]]] = defaultdict(list)
    with bench.started() as servers:
        for number in range(3 if bench.quick else 9):
            for server in servers:
                samples[server.name].append(_lifetime(server, bench.models.tiny(number)))
    for name, taken in samples.items():
        for step, times in zip(steps, zip(*taken, strict=True), strict=True):
            bench.results.record(step, name, times)


def _lifetime(server: Server, model: Model) -> list[float]:
    return [
        milliseconds(server.load, model),
        milliseconds(server.invoke, model),
        milliseconds(server.invoke, model),
        milliseconds(server.unload, model),
    ]


def large(bench: Bench) -> None:
    """400 MB of weights in the page cache: load and first answer, which touches each of them."""
    samples = defaultdict(list)
    model = bench.models.large
    with bench.started() as servers:
        for _ in range(bench.rounds(5)):
            for server in servers:
                samples[server.name].append(milliseconds(server.load_and_invoke, model))
                server.unload(model)
    for name, times in samples.items():
        bench.results.record("large", name, times)


def at_once(bench: Bench) -> None:
    """Fifty loads sent together, over when the last one is answered; then each model answers."""
    models = [bench.models.tiny(number) for number in range(AT_ONCE)]
    for contender in bench.contenders:
        with ThreadPoolExecutor(AT_ONCE) as pool, bench.warm(contender) as server:
            taken = seconds(_load_all, pool, server, models)
            for model in models:
                server.invoke(model)
        bench.results.record("at-once", contender.name, [taken])


def _load_all(pool: Executor, server: Server, models: list[Model]) -> None:
    for _ in pool.map(server.load, models):
        pass
