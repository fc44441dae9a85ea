"""An endpoint of as many models as one likes that runs nothing: the real server, page and feed.

What the server shows is a document in memory, and the test changes it as it likes.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import uvloop

from endpoint.api.backend import Backend
from endpoint.api.server import ApiServer
from endpoint.events import Event
from endpoint.metrics.measures import Measures
from endpoint.settings import EndpointSettings
from endpoint.state import State
from tests.endpoint.user import WAIT_SECONDS

MIB = 1 << 20
GIB = 1 << 30


def latency(p50: float, p99: float) -> dict[str, float]:
    """As ``GET /status`` has it, in milliseconds."""
    return {"mean": (p50 + p99) / 2, "p50": p50, "p99": p99}


class MadeUp:
    """The document. It is changed with the lock of ``Served.change`` held, by these methods."""

    def __init__(self) -> None:
        self.measures = Measures()
        self.lock = threading.Lock()
        self.endpoints: list[dict[str, Any]] = []
        self.events: list[Event] = []

    # --- what the server asks -------------------------------------------------------------------

    async def measure(self) -> None:
        """Nothing has to be measured."""

    async def seen(self, since: int, *, disk: bool = False) -> dict[str, Any]:
        """The document: rows are never changed, but replaced."""
        with self.lock:
            return {
                "time": time.time(),
                "endpoints": [_copy(one) for one in self.endpoints],
                "events": [event for event in self.events if event.number > since],
            }

    async def status(self, since: int, *, disk: bool) -> dict[str, Any]:
        """The same."""
        return await self.seen(since, disk=disk)

    # --- what tests do --------------------------------------------------------------------------

    def endpoint(self, *variants: dict[str, Any], name: str = "ep") -> None:
        """Another endpoint, which is in service."""
        self.endpoints.append(
            {"name": name, "status": "InService", "variants": [*variants], "coming": [],
             "leaving": []}
        )  # fmt: skip

    def event(self, kind: str, target: str = "", **others: Any) -> None:
        """Something happens."""
        told = {"endpoint": "ep", "variant": "v", "instance": "", "seconds": None, "text": ""}
        number = self.events[-1].number + 1 if self.events else 1
        about = {"number": number, "time": time.time(), "kind": kind, "target": target}
        self.events.append(Event(**{**told, **about, **others}))

    @property
    def variant(self) -> dict[str, Any]:
        """The first of the first endpoint."""
        found: dict[str, Any] = self.endpoints[0]["variants"][0]
        return found

    def instance(self, number: int = 0) -> dict[str, Any]:
        """An instance of that variant."""
        found: dict[str, Any] = self.variant["instances"][number]
        return found

    def put(self, target: str, number: int = 0, **model: Any) -> None:
        """A model of an instance, new or changed."""
        models = self.instance(number)["models"]
        models[target] = {**_model(target), **models.get(target, {}), **model}

    def count(self, target: str, invocations: int = 1, **others: Any) -> None:
        """Requests for a model; ``others`` are figures of it."""
        rows, metrics = self.variant["models"], self.variant["metrics"]
        row = {**_figures(), **rows.get(target, {})}
        row["invocations"] += invocations
        row["last_invoked"] = time.time()
        rows[target] = {**row, **others}
        metrics["invocations"] += invocations


def _copy(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    lists = {
        key: [
            {
                **variant,
                "metrics": dict(variant["metrics"]),
                "models": dict(variant["models"]),
                "instances": [
                    {**one, "models": [*one["models"].values()]} for one in variant["instances"]
                ],
            }
            for variant in endpoint[key]
        ]
        for key in ("variants", "coming", "leaving")
    }
    return {**endpoint, **lists}


def variant(*instances: dict[str, Any], name: str = "v", weight: float = 1.0) -> dict[str, Any]:
    """A variant that nobody has asked yet."""
    return {
        "name": name,
        "weight": weight,
        "desired_instances": len(instances),
        "instances": [*instances],
        "metrics": {
            "invocations": 0, "errors": 0, "model_errors": 0, "cold_starts": 0, "evictions": 0,
            "invocations_per_second": 0.0, "model_latency_ms": None, "overhead_latency_ms": None,
            "loading_wait_ms": None,
        },
        "models": {},
    }  # fmt: skip


def instance(name: str, **others: Any) -> dict[str, Any]:
    """An instance without models."""
    return {
        "id": name,
        "url": "http://127.0.0.1:9",
        "handle": {},
        "state": "serving",
        "requests": 0,
        "memory": {"used": 200 * MIB, "limit": 4 * GIB},
        "cpu_percent": 3.0,
        "gpus": [],
        "disk": {"used": 0, "budget": 30 * GIB, "models": 0},
        "models": {},
        "loaded": 0,
        **others,
    }


def _model(target: str) -> dict[str, Any]:
    return {
        "target": target, "id": "0", "state": "loaded", "bytes": 5 * MIB, "last_used": time.time(),
        "requests": 0, "invokes": 0, "memory": None,
    }  # fmt: skip


def _figures() -> dict[str, Any]:
    return {
        "invocations": 0, "errors": 0, "cold_starts": 0, "latency_ms": None,
        "loading_wait_ms": None, "last_invoked": None,
    }  # fmt: skip


class Fleet:
    """Many models on two instances, and traffic on them; every step is the same for a seed."""

    def __init__(self, made: MadeUp, count: int, loaded: int) -> None:
        self._made = made
        self._dice = random.Random(7)
        kinds = ("churn", "price", "ranking", "sentiment", "fraud", "forecast", "intent", "ner")
        self.targets = [
            f"customers/{number // 8:04}/{kinds[number % 8]}.tar.gz" for number in range(count)
        ]
        self._shares = [1 / (rank + 1) for rank in range(count)]
        self._loaded: list[dict[str, float]] = [{}, {}]
        self._most = loaded // 2
        made.endpoint(variant(*(instance(f"shop-v-{one}") for one in ("5k2c", "9x4d"))), name="ep")
        for target in self.targets:
            made.count(target, 0)
        for target in reversed(self.targets):
            self._load(target, quietly=True)

    def step(self, requests: int, seconds: float = 0.5) -> None:
        """So many requests by Zipf's law, in that time."""
        metrics = self._made.variant["metrics"]
        asked = self._dice.choices(self.targets, weights=self._shares, k=requests)
        for target in asked:
            cold = not any(target in models for models in self._loaded)
            if cold:
                self._load(target)
            for models in self._loaded:  # the last used is the last to go
                if target in models:
                    models[target] = models.pop(target)
            row = self._made.variant["models"][target]
            p50 = row["latency_ms"]["p50"] if row["latency_ms"] else self._dice.uniform(0.6, 30)
            figures: dict[str, Any] = {"latency_ms": latency(p50, p50 * 3)}
            if cold:
                figures["cold_starts"] = row["cold_starts"] + 1
                figures["loading_wait_ms"] = latency(84, 312)
                metrics["cold_starts"] += 1
            if self._dice.random() < 0.002:
                figures["errors"] = row["errors"] + 1
                metrics["errors"] += 1
                metrics["model_errors"] += 1
            self._made.count(target, **figures)
        metrics["invocations_per_second"] = requests / seconds
        metrics["model_latency_ms"] = latency(3.4, 61)
        metrics["overhead_latency_ms"] = latency(0.52, 2.1)
        metrics["loading_wait_ms"] = latency(84, 312)
        self._run(asked)

    def _run(self, asked: list[str]) -> None:
        running = set(asked[-8:])
        for number, loaded in enumerate(self._loaded):
            here = self._made.instance(number)
            for target in [one for one, model in here["models"].items() if model["requests"]]:
                self._made.put(target, number, requests=0)
            for target in running & loaded.keys():
                self._made.put(target, number, requests=1)
            held = sum(loaded.values())
            here |= {
                "requests": len(running & loaded.keys()),
                "memory": {"used": int(held + 300 * MIB), "limit": 4 * GIB},
                "cpu_percent": self._dice.uniform(20, 70),
                "loaded": len(loaded),
                "disk": {"used": 5 * MIB * len(loaded), "budget": 30 * GIB, "models": 2000},
            }

    def _load(self, target: str, *, quietly: bool = False) -> None:
        number = min((0, 1), key=lambda one: len(self._loaded[one]))
        loaded, where = self._loaded[number], self._made.instance(number)["id"]
        if len(loaded) >= self._most:
            victim = next(iter(loaded))
            del loaded[victim], self._made.instance(number)["models"][victim]
            if not quietly:
                self._made.variant["metrics"]["evictions"] += 1
                text = f"for {target}: it was used least for what its reload takes"
                self._made.event("evict", victim, instance=where, text=text)
        loaded[target] = self._dice.lognormvariate(1.2, 0.6) * MIB
        self._made.put(target, number, memory=int(loaded[target]), requests=0)
        if not quietly:
            self._made.event("load", target, instance=where, seconds=self._dice.uniform(0.02, 0.3))


class Served:
    """The server of a document; ``url`` is where."""

    def __init__(self, made: MadeUp, directory: Path, port: int = 0) -> None:
        self.made = made
        self._settings = replace(EndpointSettings(), port=port, data_dir=str(directory))
        self._state = directory / "state.sqlite"
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    @contextmanager
    def change(self) -> Iterator[MadeUp]:
        """The document, all of whose changes in the ``with`` block are seen together."""
        with self.made.lock:
            yield self.made

    def start(self) -> None:
        """Return when it serves."""
        self._thread.start()
        self.port = self._ready.result(WAIT_SECONDS)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it, and all connections."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        state = State(self._state)
        api = ApiServer(self._settings, state, cast(Backend, self.made))
        try:
            self._ready.set_result(await api.start())
            await self._end.wait()
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        finally:
            await api.stop(1.0)
            state.close()


@contextmanager
def served(made: MadeUp, directory: Path, port: int = 0) -> Iterator[Served]:
    """A server while the context lasts."""
    server = Served(made, directory, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Traffic:
    """Steps of a fleet in a thread, until the ``with`` block ends."""

    def __init__(self, server: Served, step: Callable[[], None], seconds: float = 0.5) -> None:
        self._server, self._step, self._seconds = server, step, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            with self._server.change():
                self._step()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
