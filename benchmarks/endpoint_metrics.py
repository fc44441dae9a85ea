"""What measuring costs: the same endpoint on two ports, of which one tells nothing to its metrics.

Both are one process, with the same container behind them, so that all else is the same; they are
asked in turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import uvloop

from benchmarks.bench import Bench
from benchmarks.endpoint_archives import asked, pack
from benchmarks.endpoint_up import NAME, TARGET_MODEL, in_service
from benchmarks.processes import ProcessTree
from benchmarks.results import OURS
from benchmarks.servers import ROOT
from benchmarks.wrk import Request, Round, post
from endpoint.api.backend import Backend
from endpoint.api.server import ApiServer
from endpoint.fleets import choice
from endpoint.invocation import Invocation
from endpoint.metrics.measures import Measures
from endpoint.objects.stores import Stores
from endpoint.platform import Platform
from endpoint.running import STATE_FILE
from endpoint.settings import EndpointSettings
from endpoint.state import State
from modelyard import aws

CONNECTIONS = 8
ROUNDS = 15
ROUND_SECONDS = 2
WARM_UP_SECONDS = 2
STOP_SECONDS = 60.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Asked:
    """A round, and the microseconds of processor time that the endpoint took for each request."""

    rate: float
    microseconds: float


def metrics(bench: Bench) -> None:
    """Rate with over rate without, and the endpoint's own processor time of a request."""
    archives = bench.scratch("archives")
    archives.mkdir()
    echo = asked("echo.tar.gz", bench.models.echo)
    pack(bench.models.echo, archives / echo.target)
    with _endpoint(bench.scratch("endpoint")) as (pid, measured, unmeasured):
        in_service(measured, f"file://{archives}/", {"MODELYARD_LEARNED_SIZES_FILE": ""})
        ways = [
            Request(
                f"{url}/endpoints/{NAME}/invocations",
                echo.body,
                echo.content_type,
                {TARGET_MODEL: echo.target},
            )
            for url in (measured, unmeasured)
        ]
        for way in ways:
            post(way, bench.directory, CONNECTIONS, WARM_UP_SECONDS)
        pairs = [_pair(bench, pid, ways, number) for number in range(bench.rounds(ROUNDS))]
    rates = [told.rate / silent.rate for told, silent in pairs]
    costs = [told.microseconds - silent.microseconds for told, silent in pairs]
    shares = [
        100 * cost / silent.microseconds for cost, (_, silent) in zip(costs, pairs, strict=True)
    ]
    bench.results.record("endpoint-metrics-rate", OURS, rates)
    bench.results.record("endpoint-metrics-cpu", OURS, costs)
    bench.results.record("endpoint-metrics-share", OURS, [median(shares)])


def _pair(bench: Bench, pid: int, ways: list[Request], number: int) -> tuple[_Asked, _Asked]:
    """Both ways, in this order or the other: machines become slower and faster meanwhile."""
    found: dict[int, _Asked] = {}
    for which in (0, 1) if number % 2 else (1, 0):
        before = _busy_seconds(pid)
        seen: Round = post(ways[which], bench.directory, CONNECTIONS, ROUND_SECONDS)
        busy = _busy_seconds(pid) - before
        found[which] = _Asked(seen.rate, 1e6 * busy / (seen.rate * ROUND_SECONDS))
    return found[0], found[1]


def _busy_seconds(pid: int) -> float:
    """Processor time of one process, without its children's."""
    text = Path(f"/proc/{pid}/stat").read_text()
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS_PER_SECOND


@contextmanager
def _endpoint(directory: Path) -> Iterator[tuple[int, str, str]]:
    """Its pid, the URL that is measured and the one that is not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.endpoint_metrics", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    tree = ProcessTree(process.pid)
    try:
        measured, unmeasured = process.stdout.readline().split()
        yield process.pid, measured, unmeasured
    finally:
        tree.alive()
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_SECONDS)
        finally:
            tree.kill()
            process.wait()


class _Silent(Measures):
    """Measures that are told nothing."""

    def answered(
        self, invocation: Invocation, seconds: float, error: BaseException | None = None
    ) -> None:
        """Leave it."""


class _Unmeasured:
    """The platform, with other measures for the API."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.measures = _Silent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)


async def _serve(directory: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = EndpointSettings(port=0, data_dir=str(directory))
    environment: Mapping[str, str] = os.environ | aws.KEYS | {"OMP_NUM_THREADS": "1"}
    with closing(State(directory / STATE_FILE)) as state:
        fleet, stores = choice.make(settings, environment), Stores(settings, None)
        platform = Platform(settings, state, fleet, stores)
        unmeasured = cast(Backend, _Unmeasured(platform))
        servers = [ApiServer(settings, state, backend) for backend in (platform, unmeasured)]
        try:
            await platform.start()
            ports = [await server.start() for server in servers]
            print(*(f"http://127.0.0.1:{port}" for port in ports), flush=True)
            await stop.wait()
        finally:
            for server in servers:
                await server.stop(1.0)
            await platform.close(stop_instances=True)
            await stores.close()
            await fleet.close()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
