"""Requests per second and latency under wrk, in rounds that alternate between the servers."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench
from benchmarks.measures import CONNECTIONS
from benchmarks.models import Model
from benchmarks.servers import BenchmarkError, Server
from benchmarks.wrk import Round, attack

ROUNDS = 3
ROUND_SECONDS = 4
WARM_UP_SECONDS = 2
NEIGHBOUR_ROUNDS = 8
NEIGHBOUR_CONNECTIONS = 4


def rates(bench: Bench) -> None:
    """Echo, scikit-learn and torch, each at 1, 8 and 32 connections."""
    models = (bench.models.echo, bench.models.iris, bench.models.mlp)
    with bench.started() as servers:
        for model in models:
            for server in servers:
                server.load(model)
            _same_answers(servers, model)
            for connections in CONNECTIONS:
                rounds = _alternate(bench, servers, model, connections)
                for name, found in rounds.items():
                    _record(bench, f"{model.name}-{connections}", name, found)


def large_bodies(bench: Bench) -> None:
    """Echo of 1 MiB bodies at 8 connections."""
    model = bench.models.echo_1mib
    with bench.started() as servers:
        for server in servers:
            server.load(model)
        _same_answers(servers, model)
        for name, found in _alternate(bench, servers, model, 8).items():
            bench.results.record("body-rate", name, [one.rate for one in found])


def neighbour(bench: Bench) -> None:
    """The p99 of one model in seconds without, and in seconds filled by, the load of another."""
    echo, slow = bench.models.echo, bench.models.slow
    before, during = defaultdict(list), defaultdict(list)
    with bench.started() as servers:
        for server in servers:
            server.load(echo)
            attack(server, echo, NEIGHBOUR_CONNECTIONS, WARM_UP_SECONDS)
        for _ in range(bench.rounds(NEIGHBOUR_ROUNDS)):
            for server in servers:
                before[server.name].append(attack(server, echo, NEIGHBOUR_CONNECTIONS, 1))
                during[server.name].append(_beside_load(server, echo, slow))
    for server in servers:
        _record_neighbour(bench, server.name, before[server.name], during[server.name])


def _beside_load(server: Server, model: Model, other: Model) -> Round:
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(server.load, other)
        found = attack(server, model, NEIGHBOUR_CONNECTIONS, 1)
        loading.result()
    server.unload(other)
    return found


def _record_neighbour(bench: Bench, name: str, before: list[Round], during: list[Round]) -> None:
    record, values = bench.results.record, bench.results.values
    record("neighbour-before", name, [one.p99 for one in before])
    record("neighbour-during", name, [one.p99 for one in during])
    ratio = values["neighbour-during", name] / values["neighbour-before", name]
    record("neighbour-change", name, [100 * (ratio - 1)])


def _same_answers(servers: list[Server], model: Model) -> None:
    if len({server.invoke(model) for server in servers}) != 1:
        raise BenchmarkError(f"the servers answer differently for {model.name}")


def _alternate(
    bench: Bench, servers: list[Server], model: Model, connections: int
) -> dict[str, list[Round]]:
    """Warm up both, then one round of each in turn, so that noise meets both."""
    for server in servers:
        attack(server, model, connections, WARM_UP_SECONDS)
    rounds = defaultdict(list)
    for _ in range(bench.rounds(ROUNDS)):
        for server in servers:
            found = attack(server, model, connections, bench.rounds(ROUND_SECONDS))
            rounds[server.name].append(found)
    return rounds


def _record(bench: Bench, key: str, name: str, rounds: list[Round]) -> None:
    bench.results.record(f"{key}-rate", name, [one.rate for one in rounds])
    bench.results.record(f"{key}-p50", name, [one.p50 for one in rounds])
    bench.results.record(f"{key}-p99", name, [one.p99 for one in rounds])
