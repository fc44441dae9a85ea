"""Ten times as many models as fit, on two instances, one of which is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.endpoint_archives import asked, pack
from benchmarks.endpoint_traffic import OK, Answer, Traffic, kinds
from benchmarks.endpoint_up import Asked, Endpoint
from benchmarks.processes import PROC, ProcessTree
from benchmarks.results import OURS
from benchmarks.servers import BenchmarkError

MODELS = 1000
QUICK_MODELS = 200
FITS = 10  # of so many models one
INSTANCES = 2
SECONDS = 120.0
QUICK_SECONDS = 15.0
LOADED_FIRST = 5
LOADED_THEN = 25
UPLOADS = 8
BACK_SECONDS = 60.0
MIB = 1 << 20
REFUSED = "429 ModelNotReadyException"
POLICIES = {"the container, `cost_aware`": "cost_aware", "the endpoint (507)": "platform"}
KEYS = {"cost_aware": "endpoint-lost", "platform": "endpoint-lost-platform"}
RELOADS = re.compile(r"^modelyard_reload_seconds_count(?:{.*})? (\S+)$", re.MULTILINE)
ONLY_SKLEARN = {"MODELYARD_PRELOAD": "sklearn"}


@dataclass(frozen=True)
class Run:
    """What came of the traffic."""

    answers: list[Answer]
    events: list[Any]
    reloads: float
    killed: str
    killed_at: float


def fleet(bench: Bench) -> None:
    """The same traffic with memory kept by the container, then by the endpoint."""
    count = QUICK_MODELS if bench.quick else MODELS
    model = bench.models.of_formats["scikit-learn"]
    archive = pack(model, bench.directory / "tiny.tar.gz")
    models = [asked(f"tiny-{number:04}.tar.gz", model) for number in range(count)]

    def filled(policy: str, settings: dict[str, str]) -> Endpoint:
        policies = {**ONLY_SKLEARN, "MODELYARD_EVICTION_POLICY": policy}
        endpoint = Endpoint(bench, settings, environment=policies)
        with ThreadPoolExecutor(UPLOADS) as pool:
            endpoint.s3.list_buckets()
            list(pool.map(lambda one: endpoint.put(one.target, archive), models))
        return endpoint

    with filled("cost_aware", {}) as endpoint:
        limit = _room_for(endpoint, models, count // FITS // INSTANCES)
    settings = {"instance-memory-bytes": str(limit)}
    for name, policy in POLICIES.items():
        with filled(policy, settings) as endpoint:
            endpoint.serve(instances=INSTANCES)
            run = _under_traffic(endpoint, models, QUICK_SECONDS if bench.quick else SECONDS)
        _record(bench, name, policy, run)


def _room_for(endpoint: Endpoint, models: Sequence[Asked], count: int) -> int:
    """The limit with which an instance has room for so many models, in bytes."""
    endpoint.serve()
    (instance,) = endpoint.instances()
    tree = ProcessTree(_pid(endpoint, instance))
    for model in models[:LOADED_FIRST]:
        endpoint.invoke(model)
    few = tree.memory().anonymous
    for model in models[LOADED_FIRST : LOADED_FIRST + LOADED_THEN]:
        endpoint.invoke(model)
    each = (tree.memory().anonymous - few) / LOADED_THEN
    return round(MIB * (few + (count - LOADED_FIRST) * each))


def _pid(endpoint: Endpoint, instance: Any) -> int:
    """The first process of an instance: of those that were told to listen on its port."""
    told = f"\0SAGEMAKER_BIND_TO_PORT={urlsplit(instance['url']).port}\0".encode()
    for process in sorted(endpoint.tree.alive(), key=lambda one: one.start_ticks):
        environment = (PROC / str(process.pid) / "environ").read_bytes()
        if told in b"\0" + environment:
            return process.pid
    raise BenchmarkError(f"there is no process of instance {instance['id']}")


def _under_traffic(endpoint: Endpoint, models: Sequence[Asked], seconds: float) -> Run:
    traffic = Traffic(endpoint, models)
    victim = endpoint.instances()[0]
    killed_at: list[float] = []

    def kill() -> None:
        os.kill(_pid(endpoint, victim), signal.SIGKILL)
        killed_at.append(time.time())

    answers = traffic.run(seconds, kill)
    _wait_for_all(endpoint)
    reloads = sum(_reloads(instance) for instance in endpoint.instances())
    return Run(answers, traffic.events, reloads, victim["id"], killed_at[0])


def _wait_for_all(endpoint: Endpoint) -> None:
    """Another instance has to come for the one that was killed."""
    deadline = time.monotonic() + BACK_SECONDS
    while [one["state"] for one in endpoint.instances()] != INSTANCES * ["serving"]:
        if time.monotonic() > deadline:
            raise BenchmarkError("the instance that was killed was not replaced")
        time.sleep(0.5)


def _reloads(instance: Any) -> float:
    with urllib.request.urlopen(f"{instance['url']}/metrics", timeout=30) as answer:
        return sum(map(float, RELOADS.findall(answer.read().decode())))


def _record(bench: Bench, name: str, policy: str, run: Run) -> None:
    found = kinds(run.answers)
    print(f"  answers: {json.dumps(found)}", flush=True)
    lost = sum(count for kind, count in found.items() if kind not in (OK, REFUSED))
    cold, warm = _split(run)
    columns = {
        "answers": len(run.answers),
        "refused": found[REFUSED],
        "lost": lost,
        "cold": 1000 * len(cold) / len(run.answers),
        "reloads": 1000 * run.reloads / len(run.answers),
        "moved": _moved(run),
    }
    for what, times in (("warm", warm), ("cold", cold)):
        cuts = quantiles(times, n=100)
        columns |= {f"{what}-p50": cuts[49], f"{what}-p99": cuts[98]}
    for column, value in columns.items():
        bench.results.fill("endpoint_fleet", name, column, [value])
    bench.results.record(KEYS[policy], OURS, [lost])


def _split(run: Run) -> tuple[list[float], list[float]]:
    """Times of answers during which the endpoint had their model loaded, and of all others."""
    loads = defaultdict(list)
    for event in run.events:
        if event["kind"] == "load":
            loads[event["target"]].append(event["time"])
    cold: list[float] = []
    warm: list[float] = []
    for one in run.answers:
        is_cold = any(one.begin <= moment <= one.end for moment in loads[one.target])
        (cold if is_cold else warm).append(one.ms)
    return cold, warm


def _moved(run: Run) -> int:
    """Models that were last loaded on the instance that was killed, and then on another."""
    there: set[str] = set()
    moved: set[str] = set()
    for event in run.events:
        if event["kind"] == "load" and event["time"] < run.killed_at:
            (there.add if event["instance"] == run.killed else there.discard)(event["target"])
        elif event["kind"] == "load" and event["instance"] != run.killed:
            moved |= {event["target"]} & there
    return len(moved)
