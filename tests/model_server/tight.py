"""A server whose memory fits so many models of one size, and what it says of memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..contract.endpoint import Endpoint
from ..contract.polling import eventually
from ..contract.processes import stopped
from ..contract.server import OwnServer
from . import inside
from .conftest import QUICK, Yard
from .measured import measured
from .told import make

MIB = 1 << 20
SIZE_MB = 40

# What a server with one gateway takes itself, and what a model of that size does.
_OVERHEAD_MB, _MODEL_MB = 60, 44


def fitting(models: int, **settings: str) -> dict[str, str]:
    """Settings of a server where so many models fit, the next one is predicted not to."""
    limit = (_OVERHEAD_MB + _MODEL_MB * models + 26) * MIB
    return {
        **QUICK,
        "MODELYARD_MEMORY_LIMIT_BYTES": str(limit),
        "MODELYARD_GATEWAYS": "1",
        "MODELYARD_EVICTION_POLICY": "lru",
        **settings,
    }


@dataclass
class Tight:
    """Such a server; ``directory`` is for what its models write."""

    own: OwnServer
    endpoint: Endpoint
    directory: Path
    threads: ThreadPoolExecutor
    logs: dict[str, Path] = field(default_factory=dict)
    loaded_at: dict[str, float] = field(default_factory=dict)
    releases: list[Path] = field(default_factory=list)

    # --- models ---------------------------------------------------------------------------------

    def made(
        self, settings: str = "", behaviour: str = "holds_as_told", mb: int = SIZE_MB, **told: Any
    ) -> Path:
        """The directory of a model whose weights foretell what it will take."""
        log = self.directory / f"loads-{len(self.logs)}"
        made = make(
            self.own.models_dir, behaviour, settings, **{"HOLDS_MB": mb, "LOADS": log, **told}
        )
        self.logs[made.name] = log
        with (made / "weights.bin").open("wb") as file:
            file.truncate(mb * MIB)  # sparse: takes no space
        return made

    def load(self, settings: str = "", **told: Any) -> str:
        """The name of such a model, loaded."""
        made = self.made(settings, **told)
        response = self.endpoint.load_url(made.name, str(made))
        assert response.status_code == 200, response.text
        self.loaded_at[made.name] = time.monotonic()
        return made.name

    def rest(self, *names: str) -> None:
        """Wait until these have been in memory for long enough to leave."""
        until = max(
            self.loaded_at[name] + max(0.2, 2.1 * float(self.known(name)["reloadSeconds"]))
            for name in names
        )
        assert eventually(lambda: time.monotonic() > until, within_seconds=60)

    def begin_load(self, settings: str = "", **told: Any) -> tuple[str, Future[httpx.Response]]:
        """The name of such a model, and the answer to its load."""
        made = self.made(settings, **told)
        return made.name, self.threads.submit(self.endpoint.load_url, made.name, str(made))

    def begin(self, name: str, body: bytes = b"") -> Future[httpx.Response]:
        """The answer to an invoke."""
        return self.threads.submit(self.endpoint.invoke, name, body)

    def loads(self, name: str) -> int:
        """How often a model has been loaded."""
        path = self.logs[name]
        return len(path.read_text().split()) if path.exists() else 0

    def keep_busy(self, name: str) -> Callable[[], httpx.Response]:
        """Give a model a request that ends when the result is called, which returns the answer."""
        number = len(self.releases)
        begun, release = self.directory / f"begun-{number}", self.directory / f"release-{number}"
        self.releases.append(release)
        order = json.dumps({"touch": str(begun), "wait": str(release)}).encode()
        answer = self.begin(name, order)
        assert eventually(begun.exists)

        def end() -> httpx.Response:
            release.touch()
            return answer.result()

        return end

    @contextmanager
    def held_up(self, name: str) -> Iterator[int]:
        """Stop the model's process, so that it does not leave; its pid."""
        (pid,) = inside.pids(self.endpoint, name)
        with stopped(pid):
            yield pid

    def wait_for_queue(self, name: str, count: int) -> None:
        """Wait until so many requests wait for the model's process."""
        assert measured(self.endpoint, lambda now: now("model_queued", model=name) == count)

    # --- what it says ---------------------------------------------------------------------------

    def state(self, name: str) -> str:
        """The state of a model, empty when there is none of that name."""
        return str(self.endpoint.get(name).json().get("state", ""))

    def is_idle(self, name: str) -> bool:
        """Whether a model is in memory and may leave."""
        known = self.known(name)
        return known["state"] == "READY" and not known["pinned"]

    def becomes(self, name: str, *states: str) -> bool:
        """Whether a model comes to be in one of these states."""
        return eventually(lambda: self.state(name) in states)

    def memory(self) -> dict[str, Any]:
        """What ``GET /memory`` says."""
        found: dict[str, Any] = self.endpoint.send("GET", "/memory").json()
        return found

    def ledger(self, name: str = "ram") -> dict[str, int]:
        """One of the ledgers."""
        ledgers: list[dict[str, Any]] = self.memory()["ledgers"]
        return next(ledger for ledger in ledgers if ledger["name"] == name)

    def known(self, name: str) -> dict[str, Any]:
        """What ``GET /memory`` says of a model."""
        models: list[dict[str, Any]] = self.memory()["models"]
        return next(model for model in models if model["modelName"] == name)

    def decisions(self, name: str) -> list[dict[str, Any]]:
        """The decisions about a model, the latest first."""
        response = self.endpoint.send("GET", f"/memory/decisions?model={name}")
        found: list[dict[str, Any]] = response.json()["decisions"]
        return found

    def decision(self, name: str) -> dict[str, Any]:
        """The latest that was made for a model's sake."""
        return next(each for each in self.decisions(name) if each["modelName"] == name)

    def clear(self) -> None:
        """Let all requests go and unload all models."""
        for release in self.releases:
            release.touch()
        for name in self.endpoint.names():
            self.endpoint.unload(name)


def names(choices: list[dict[str, Any]]) -> list[str]:
    """The models among victims or kept."""
    return [choice["modelName"] for choice in choices]


def tight_yard(
    yard: Yard, directory: Path, threads: ThreadPoolExecutor, models: int, **settings: str
) -> Tight:
    """A fresh server that fits so many models."""
    own, endpoint = yard(**fitting(models, **settings))
    return Tight(own, endpoint, directory, threads)
