"""The first answer of an evicted tiny model: where there is room, and where another must leave."""

from __future__ import annotations

import time
from math import ceil

from benchmarks.bench import Bench, milliseconds
from benchmarks.models import Model
from benchmarks.results import OURS
from benchmarks.scraped import figures, samples
from benchmarks.servers import BenchmarkError, Server

ROUNDS = 100
QUICK_ROUNDS = 10
ROOM = 1.8  # of one model's memory
REST_SECONDS = 0.15  # a model stays for at least 0.1 s
ZYGOTES = {"MODELYARD_PRELOAD": "sklearn,pytorch"}
WARM_SECONDS = 60.0


def returns(bench: Bench) -> None:
    """Two copies of each kind of model where only one fits."""
    for kind, model in bench.models.of_formats.items():
        pair = [
            bench.models.variant(model, f"{model.name}-{which}", own_files=True)
            for which in ("one", "other")
        ]
        _one_kind(bench, kind, pair[0], pair[1])
    cells = bench.results.cells
    for share in ("p50", "p95"):
        torch = [cells["returns", kind, share] for kind in bench.models.of_formats if "t" in kind]
        bench.results.record(f"return-{share}", OURS, [max(torch)])


def _one_kind(bench: Bench, kind: str, one: Model, other: Model) -> None:
    learned = {"MODELYARD_LEARNED_SIZES_FILE": str(bench.directory / f"{one.name}.json")}
    with bench.ours({**ZYGOTES, **learned}) as server:
        wait_until_warm(server, 2)
        for model in (one, other):
            server.load_and_invoke(model)
        found = figures(server)
        each = found["modelyard_memory_held_bytes"] / 2
        limit = round(found["modelyard_memory_server_bytes"] + ROOM * each)
        server.stop()
    tight = {"MODELYARD_MEMORY_LIMIT_BYTES": str(limit)}
    with bench.ours({**ZYGOTES, **learned, **tight}) as server:
        wait_until_warm(server, 2)
        rounds = QUICK_ROUNDS if bench.quick else ROUNDS
        server.load_and_invoke(one)
        into_room = [_into_room(server, one, other) for _ in range(rounds)]
        server.load_and_invoke(other)
        pairs = [_in_others_place(server, (one, other)) for _ in range(rounds // 2)]
    in_place = [taken for pair in pairs for taken in pair]
    for column, times in (("", into_room), ("evicting-", in_place)):
        for share in (50, 95):
            value = sorted(times)[ceil(share / 100 * len(times)) - 1]
            bench.results.fill("returns", kind, f"{column}p{share}", [value])


def _into_room(server: Server, model: Model, other: Model) -> float:
    """Another model has pushed it out and has been unloaded: ms until it answers again."""
    time.sleep(REST_SECONDS)
    server.load(other)
    _expect_away(server, model)
    server.unload(other)
    time.sleep(REST_SECONDS)
    return milliseconds(server.invoke, model)


def _in_others_place(server: Server, pair: tuple[Model, Model]) -> list[float]:
    """Each in turn pushes the other one out: ms until it answers."""
    taken = []
    for model in pair:
        time.sleep(REST_SECONDS)
        _expect_away(server, model)
        taken.append(milliseconds(server.invoke, model))
    return taken


def _expect_away(server: Server, model: Model) -> None:
    state = server.describe(model)["state"]
    if state != "EVICTED":
        raise BenchmarkError(f"{model.name} is {state}, not evicted: its return says nothing")


def wait_until_warm(server: Server, zygotes: int) -> None:
    """Return when so many zygotes are warm: they count as memory of the server from then on."""
    deadline = time.monotonic() + WARM_SECONDS
    while sum(size > 0 for size in samples(server, "modelyard_zygote_bytes")) < zygotes:
        if time.monotonic() > deadline:
            raise BenchmarkError("the zygotes do not get warm")
        time.sleep(0.1)
    time.sleep(1.0)
