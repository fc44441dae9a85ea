"""What is loaded where, and what happened, as the endpoint and its instances tell it.

The endpoint knows which instance has which model, and its own events: ``GET /status``. Which of
them are in memory at the moment only the instance itself knows, as it evicts models when others
need room and brings them back when they are asked for: ``GET /memory`` and what it decided and why,
``GET /memory/decisions``.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from examples.demo.errors import DemoError

_TIMEOUT_SECONDS = 10.0
# States of a model on an instance; in the others it is not in memory.
_IN_MEMORY = ("READY", "RESTARTING")
_COMING = ("LOADING",)
_LEAVING = ("EVICTING", "UNLOADING")
_MADE = ("fits", "evict")


@dataclass(frozen=True)
class Victim:
    """A model that had to leave memory."""

    target: str
    freed_bytes: int
    reload_seconds: float
    back_in_seconds: float | None


@dataclass(frozen=True)
class Arrival:
    """A model that came into an instance's memory, and those that left for it."""

    instance: str
    target: str
    begin: float  # since the epoch
    end: float
    victims: tuple[Victim, ...]


@dataclass(frozen=True)
class Instance:
    """An instance as it is now. Numbers count from its start."""

    name: str
    url: str
    state: str
    in_memory: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    held_bytes: dict[str, int] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    server_bytes: int = 0
    evictions: int = 0
    uses: int = 0


class Watch:
    """Looks at one endpoint, and remembers what it saw."""

    def __init__(self, url: str, endpoint: str) -> None:
        self.arrivals: list[Arrival] = []
        self.events: list[dict[str, Any]] = []
        self._url = url
        self._endpoint = endpoint
        self._targets: dict[str, str] = {}  # by the id that models have on instances
        self._decisions: dict[str, int] = {}  # the last one seen, by instance

    def look(self) -> list[Instance]:
        """All instances. Raises DemoError when the endpoint does not answer."""
        since = self.events[-1]["number"] if self.events else 0
        try:
            status = _get(f"{self._url}/status?disk=1&since={since}")
        except (OSError, ValueError) as error:
            raise DemoError(f"the endpoint does not answer any more: {error}") from error
        self.events += status["events"]
        return [
            self._instance(seen)
            for endpoint in status["endpoints"]
            if endpoint["name"] == self._endpoint
            for variant in endpoint["variants"]
            for seen in variant["instances"]
        ]

    def is_warm(self, frameworks: Iterable[str]) -> bool:
        """Whether all instances have imported these."""
        return all(_is_warm(instance.url, frameworks) for instance in self.look())

    def happened(self, kind: str, since: float, target: str = "") -> dict[str, Any] | None:
        """The first event of a kind since a time, of a model or of any."""
        for event in self.events:
            of_target = not target or event["target"] == target
            if event["kind"] == kind and event["time"] >= since and of_target:
                return event
        return None

    def came(self, target: str, begin: float, end: float) -> bool:
        """Whether the model was on its way into memory at some moment of that time."""
        return any(
            one.target == target and one.begin <= end and begin <= one.end for one in self.arrivals
        )

    def _instance(self, seen: dict[str, Any]) -> Instance:
        name = str(seen["id"]).removeprefix(f"{self._endpoint}.AllTraffic.")
        gone = Instance(name, seen["url"], seen["state"])
        if not seen["url"]:
            return gone
        self._targets |= {model["id"]: model["target"] for model in seen.get("models", ())}
        try:
            memory = _get(f"{seen['url']}/memory")
            decisions = _get(f"{seen['url']}/memory/decisions?limit=200")["decisions"]
        except (OSError, ValueError):  # it is on its way in or out
            return gone
        models = {
            self._targets[model["modelName"]]: model
            for model in memory["models"]
            if model["modelName"] in self._targets
        }
        self._note(name, seen["url"], decisions, models)
        [ram] = [ledger for ledger in memory["ledgers"] if ledger["name"] == "ram"]
        return Instance(
            name,
            seen["url"],
            seen["state"],
            in_memory=_those_in(_IN_MEMORY, models),
            coming=_those_in(_COMING, models),
            leaving=_those_in(_LEAVING, models),
            held_bytes={
                target: model["heldBytes"].get("ram", 0) for target, model in models.items()
            },
            ids={target: model["modelName"] for target, model in models.items()},
            server_bytes=ram["overheadBytes"],
            evictions=sum(model["evictions"] for model in models.values()),
            uses=sum(model["uses"] for model in models.values()),
        )

    def _note(
        self,
        name: str,
        url: str,
        decisions: list[dict[str, Any]],
        models: dict[str, dict[str, Any]],
    ) -> None:
        """Keep what has been decided since the last look, oldest first."""
        last = self._decisions.get(url, 0)
        for decision in sorted(decisions, key=lambda one: int(one["number"])):
            target = self._targets.get(decision["modelName"], "")
            if decision["number"] > last and decision["outcome"] in _MADE and target:
                reload = models[target]["reloadSeconds"] if target in models else 0.0
                coming = decision["cause"] in ("load", "return")
                self.arrivals.append(
                    Arrival(
                        name,
                        target,
                        decision["at"] - decision["waitedSeconds"],
                        decision["at"] + (reload if coming else 0.0),
                        tuple(self._victim(victim) for victim in decision["victims"]),
                    )
                )
                self._decisions[url] = decision["number"]

    def _victim(self, victim: dict[str, Any]) -> Victim:
        return Victim(
            self._targets.get(victim["modelName"], victim["modelName"]),
            victim["freedBytes"],
            victim["reloadSeconds"],
            victim["expectedReturnSeconds"],
        )


def _those_in(states: Collection[str], models: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(target for target, model in models.items() if model["state"] in states))


def _is_warm(url: str, frameworks: Iterable[str]) -> bool:
    try:
        metrics = _read(f"{url}/metrics").decode()
    except (OSError, ValueError):
        return False
    return all(
        re.search(rf'^modelyard_zygote_bytes{{framework="{name}"}} [1-9]', metrics, re.MULTILINE)
        for name in frameworks
    )


def _get(url: str) -> Any:
    return json.loads(_read(url))


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read()
    return content


def now() -> float:
    """The clock by which things happen."""
    return time.time()
