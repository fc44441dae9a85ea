"""How well sizes are predicted, and what many loads at once make of a limit for a few."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.models import Model
from benchmarks.residency import sampled
from benchmarks.results import OURS
from benchmarks.returns import wait_until_warm
from benchmarks.scraped import figures, room_for
from benchmarks.servers import BenchmarkError, Server

SIZES_MIB = (1, 2, 4, 8, 16, 32, 64)
MIB = 1 << 20
AT_ONCE = 40
FIT = 10
EACH_BYTES = 16 * MIB
SAMPLED_SECONDS = 15
ZYGOTES = {"MODELYARD_PRELOAD": "python,sklearn,pytorch"}


def admission(bench: Bench) -> None:
    """The same loads twice over for the prediction, then forty at once where ten fit."""
    tiny = [*bench.models.of_formats.values(), bench.models.echo]
    heavy = [bench.models.ballast(1000 + size, size * MIB) for size in SIZES_MIB]
    with bench.ours(ZYGOTES) as server:
        wait_until_warm(server, 3)
        bench.results.record("predicted-first", OURS, [_error(server, tiny + heavy)])
        bench.results.record("predicted-again", OURS, [_error(server, tiny + heavy)])
        bench.results.record("predicted-mapped", OURS, [_error(server, [bench.models.large])])
    _at_once(bench)


def _error(server: Server, models: list[Model]) -> float:
    """Load one after another: by how much predictions were off, in % of what was measured."""
    before = figures(server)
    for model in models:
        server.load_and_invoke(model)
        server.unload(model)
    after = figures(server)
    error, measured = (
        after[name] - before.get(name, 0.0)
        for name in (
            "modelyard_prediction_error_bytes_total",
            "modelyard_predicted_models_bytes_total",
        )
    )
    return 100 * error / measured


def _at_once(bench: Bench) -> None:
    models = [bench.models.ballast(2000 + number, EACH_BYTES) for number in range(AT_ONCE)]
    with bench.ours({"MODELYARD_PRELOAD": "python"}) as server:
        wait_until_warm(server, 1)
        server.load_and_invoke(models[0])
        limit = room_for(server, FIT + 0.5)
    tight = {"MODELYARD_PRELOAD": "python", "MODELYARD_MEMORY_LIMIT_BYTES": str(limit)}
    with bench.ours(tight) as server:
        wait_until_warm(server, 1)
        with sampled(server.pid, SAMPLED_SECONDS) as seen:
            time.sleep(1.0)  # the sampler starts
            with ThreadPoolExecutor(AT_ONCE) as pool:
                refused = sum(pool.map(lambda model: _is_refused(server, model), models))
    bench.results.record("at-once-refused", OURS, [refused])
    bench.results.record("at-once-memory", OURS, [100 * max(seen) * MIB / limit])


def _is_refused(server: Server, model: Model) -> bool:
    try:
        server.load(model)
    except BenchmarkError:
        return True
    return False
