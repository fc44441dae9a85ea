"""Rows per second of a model in batches, beside those of the same model request by request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from benchmarks.bench import Bench
from benchmarks.measures import BATCH
from benchmarks.models import Model
from benchmarks.results import OURS, THEIRS
from benchmarks.servers import Server
from benchmarks.wrk import Round, attack

CONNECTIONS = 4 * BATCH
ROUNDS = 3
ROUND_SECONDS = 2
WARM_UP_SECONDS = 1
SIZES = (1, BATCH)
DELAY_MS = 100  # multi-model-server fills a batch for so long; there is always enough that waits

Contest = tuple[Server, int, Model]


def batch(bench: Bench) -> None:
    """Ten million parameters over one row a request, batches of 8 and of 1 in turn."""
    models = bench.models
    of_kinds = {"npy": models.mlp_npy, "json": models.mlp_json, "service": models.mlp_service}
    with bench.started() as servers:
        for kind, model in of_kinds.items():
            chosen = [server for server in servers if server.name == OURS or kind == "service"]
            contests = [
                (server, size, _with_batches(bench, server, model, size))
                for server in chosen
                for size in SIZES
            ]
            _record(bench, kind, _alternate(bench, contests))
            for server, _, one in contests:
                server.unload(one)


def _with_batches(bench: Bench, server: Server, model: Model, size: int) -> Model:
    """Load a model that is served in batches: each server is told in its own way."""
    variant = bench.models.variant(model, f"{model.name}-{size}", f"batch_size = {size}\n")
    options = {"batch_size": size, "max_batch_delay": DELAY_MS} if server.name == THEIRS else {}
    server.load(variant, **options)
    return variant


def _alternate(bench: Bench, contests: Iterable[Contest]) -> dict[tuple[str, int], list[Round]]:
    found = defaultdict(list)
    for server, _, model in contests:
        attack(server, model, CONNECTIONS, WARM_UP_SECONDS)
    for _ in range(bench.rounds(ROUNDS)):
        for server, size, model in contests:
            taken = attack(server, model, CONNECTIONS, bench.rounds(ROUND_SECONDS))
            found[server.name, size].append(taken)
    return found


def _record(bench: Bench, kind: str, found: dict[tuple[str, int], list[Round]]) -> None:
    for (name, size), rounds in found.items():
        bench.results.record(f"batch-{kind}-{size}", name, [one.rate for one in rounds])
    for name in dict.fromkeys(name for name, _ in found):
        pairs = zip(found[name, BATCH], found[name, 1], strict=True)
        gains = [many.rate / one.rate for many, one in pairs]
        bench.results.record(f"batch-{kind}-gain", name, gains)
