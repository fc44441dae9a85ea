"""A tiny model of every framework that is installed: loads, and what another one takes."""

from __future__ import annotations

import re
from collections import defaultdict

from benchmarks.bench import Bench, milliseconds
from benchmarks.memory import steady
from benchmarks.models import Model
from benchmarks.servers import Server

STARTS = 2
WARM_LOADS = 4
FURTHER = 8
ZYGOTE = re.compile(r'^modelyard_zygote_bytes{framework="(\w+)"} (\S+)$', re.MULTILINE)


def frameworks(bench: Bench) -> None:
    """For each: a first load, which has to warm the zygote up, then others, then more of them."""
    for name, model in bench.models.of_frameworks.items():
        taken = defaultdict(list)
        for start in range(bench.rounds(STARTS)):
            with bench.ours({"MODELYARD_PRELOAD": "none"}) as server:
                taken["cold"].append(milliseconds(server.load, model))
                server.invoke(model)
                taken["warm"] += _warm(server, model)
                taken["zygote"].append(_zygote_mib(server, name))
                if start == 0:
                    taken["private"].append(_further(bench, server, model))
        for column in ("warm", "cold", "private", "zygote"):
            bench.results.fill("frameworks", name, column, taken[column])


def _warm(server: Server, model: Model) -> list[float]:
    times = []
    for _ in range(WARM_LOADS):
        server.unload(model)
        times.append(milliseconds(server.load, model))
    server.invoke(model)
    return times


def _zygote_mib(server: Server, framework: str) -> float:
    return float(dict(ZYGOTE.findall(server.metrics()))[framework]) / (1 << 20)


def _further(bench: Bench, server: Server, model: Model) -> float:
    """MiB of private memory for one more; each has answered once."""
    before = steady(server).private
    for number in range(FURTHER):
        copy = bench.models.variant(model, f"{model.name}-{number}", own_files=True)
        server.load_and_invoke(copy)
    return (steady(server).private - before) / FURTHER
