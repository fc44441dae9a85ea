"""What the endpoint adds to a model that is loaded, beside the same request to its container."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import quantiles

from benchmarks.bench import Bench
from benchmarks.endpoint_archives import asked, pack
from benchmarks.endpoint_up import NAME, TARGET_MODEL, Asked, Endpoint
from benchmarks.results import OURS
from benchmarks.wrk import Request, Round, post

CONNECTIONS = (1, 8)
ROUNDS = 5
ROUND_SECONDS = 4
WARM_UP_SECONDS = 1
BOTO3_SECONDS = 5
STRAIGHT, THROUGH, BOTO3 = "Straight to the container", "Through the endpoint", "The same by boto3"


def warm(bench: Bench) -> None:
    """Both ways in turn, by wrk; then boto3 alone."""
    model = bench.models.echo
    echo = asked("echo.tar.gz", model)
    with Endpoint(bench) as endpoint:
        endpoint.put(echo.target, pack(model, bench.directory / echo.target))
        endpoint.serve()
        endpoint.invoke(echo)
        ways = {STRAIGHT: _straight(endpoint, echo), THROUGH: _through(endpoint, echo)}
        for connections in CONNECTIONS:
            _contest(bench, ways, connections)
        _by_boto3(bench, endpoint, echo)


def _straight(endpoint: Endpoint, echo: Asked) -> Request:
    (instance,) = endpoint.instances()
    (loaded,) = instance["models"]
    url = f"{instance['url']}/models/{loaded['id']}/invoke"
    return Request(url, echo.body, echo.content_type)


def _through(endpoint: Endpoint, echo: Asked) -> Request:
    url = f"{endpoint.url}/endpoints/{NAME}/invocations"
    return Request(url, echo.body, echo.content_type, {TARGET_MODEL: echo.target})


def _contest(bench: Bench, ways: dict[str, Request], connections: int) -> None:
    rounds: dict[str, list[Round]] = defaultdict(list)
    for request in ways.values():
        post(request, bench.directory, connections, WARM_UP_SECONDS)
    for _ in range(bench.rounds(ROUNDS)):
        for way, request in ways.items():
            rounds[way].append(post(request, bench.directory, connections, ROUND_SECONDS))
    for way, found in rounds.items():
        for column in ("rate", "p50", "p99"):
            values = [getattr(one, column) for one in found]
            bench.results.fill("endpoint_warm", f"{way}, {connections} conn.", column, values)
    pairs = list(zip(rounds[THROUGH], rounds[STRAIGHT], strict=True))
    for share in ("p50", "p99"):
        added = [getattr(ours, share) - getattr(bare, share) for ours, bare in pairs]
        bench.results.record(f"endpoint-added-{share}-{connections}", OURS, added)


def _by_boto3(bench: Bench, endpoint: Endpoint, echo: Asked) -> None:
    times = []
    begin = last = time.perf_counter()
    while last - begin < BOTO3_SECONDS:
        endpoint.invoke(echo)
        now = time.perf_counter()
        times.append(1000 * (now - last))
        last = now
    cuts = quantiles(times, n=100)
    values = {"rate": len(times) / (last - begin), "p50": cuts[49], "p99": cuts[98]}
    for column, value in values.items():
        bench.results.fill("endpoint_warm", f"{BOTO3}, 1 conn.", column, [value])
