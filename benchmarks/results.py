"""What is measured, in which unit, and what was promised: the only place that names a target."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

OURS = "Modelyard"
THEIRS = "multi-model-server"
TIMES = "\u00d7"
CONNECTIONS = (1, 8, 32)


@dataclass(frozen=True)
class Measure:
    """One row. A target is a bound on our value, on the ratio (how many times better), or both."""

    title: str
    unit: str
    more_is_better: bool = False
    at_most: float | None = None
    at_least: float | None = None
    times_better: float | None = None
    compared: bool = True

    def ratio(self, ours: float | None, theirs: float | None) -> float | None:
        """How many times better ours is; nothing where a ratio would say nothing."""
        if not self.compared or not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    def target(self) -> str:
        """The target in words, empty where none was set."""
        parts = []
        if self.times_better is not None:
            parts.append(f"≥ {self.times_better:.3g}{TIMES}")
        if self.at_most is not None:
            parts.append(f"≤ {self.at_most:g} {self.unit}".rstrip())
        if self.at_least is not None:
            parts.append(f"≥ {self.at_least:g} {self.unit}".rstrip())
        return ", ".join(parts)

    def met(self, ours: float | None, theirs: float | None) -> bool | None:
        """Whether every part of the target holds; nothing where there is none, or no value."""
        if not self.target() or ours is None:
            return None
        ratio = self.ratio(ours, theirs)
        checks = [
            None if self.at_most is None else ours <= self.at_most,
            None if self.at_least is None else ours >= self.at_least,
            None if self.times_better is None or ratio is None else ratio >= self.times_better,
        ]
        known = [check for check in checks if check is not None]
        return all(known) if known else None


def _rates() -> dict[str, Measure]:
    models = {"echo": "Echo, 100 bytes", "iris": "scikit-learn, one row", "mlp": "torch, 10 M"}
    promised = {("echo", 8): 3.0, ("echo", 32): 3.0, ("iris", 32): 2.5}
    found = {}
    for model, title in models.items():
        for connections in CONNECTIONS:
            row, key = f"{title}, {connections} conn.", f"{model}-{connections}"
            better = promised.get((model, connections))
            found[f"{key}-rate"] = Measure(f"{row}: rate", "req/s", True, times_better=better)
            halved = 1 / 0.55 if key == "echo-1" else None
            found[f"{key}-p50"] = Measure(f"{row}: p50", "ms", times_better=halved)
            found[f"{key}-p99"] = Measure(f"{row}: p99", "ms")
    return found


MEASURES: dict[str, Measure] = {
    "start": Measure("Start to the first 200 from /ping", "s", at_most=1.0),
    "tiny-load": Measure("Tiny torch model: load", "ms", at_most=35, times_better=50),
    "tiny-first": Measure("Tiny torch model: first answer", "ms"),
    "tiny-second": Measure("Tiny torch model: second answer", "ms"),
    "tiny-unload": Measure("Tiny torch model: unload", "ms"),
    "large": Measure("Load 400 MB of weights and answer", "ms", at_most=150),
    "at-once": Measure("Load 50 tiny torch models at once", "s", times_better=60),
    "pss-fresh": Measure("Memory (PSS) after the start", "MiB"),
    "pss-0": Measure("Memory (PSS) with 0 models, after the first", "MiB"),
    "pss-1": Measure("Memory (PSS) with 1 tiny torch model", "MiB"),
    "pss-10": Measure("Memory (PSS) with 10 tiny torch models", "MiB"),
    "pss-50": Measure("Memory (PSS) with 50 tiny torch models", "MiB"),
    "pss-200": Measure("Memory (PSS) with 200 tiny torch models", "MiB"),
    "pss-each": Measure("PSS per further tiny torch model", "MiB"),
    "private-each": Measure("Private memory per further tiny torch model", "MiB", at_most=6),
    "returned": Measure(
        "Memory given back by unloading all", "%", True, at_least=99, compared=False
    ),
    "left": Measure("Processes left after a stop", "", at_most=0, compared=False),
    **_rates(),
    "body-rate": Measure("Echo, 1 MiB bodies, 8 conn.: rate", "req/s", True, times_better=2),
    "neighbour-before": Measure("Echo, 4 conn., nothing else: p99", "ms"),
    "neighbour-during": Measure("Echo, 4 conn., beside a 1 s load: p99", "ms"),
    "neighbour-change": Measure("Change of that p99", "%", at_most=10, compared=False),
}


@dataclass
class Results:
    """The median of what was measured, by measure and server, and what went wrong.

    ``load_before`` is the load average at the start: above about 0.5, other work was in the way.
    """

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def record(self, key: str, server: str, samples: Iterable[float]) -> None:
        """Keep the median of ``samples`` and show it at once."""
        measure, value = MEASURES[key], median(samples)
        self.values[key, server] = value
        print(f"  {measure.title:50} {server:20} {value:10.4g} {measure.unit}", flush=True)

    def pair(self, key: str) -> tuple[float | None, float | None]:
        """Ours and theirs."""
        return self.values.get((key, OURS)), self.values.get((key, THEIRS))

    def measured(self) -> list[str]:
        """The measures that at least one server has a value for, in the table's order."""
        return [key for key in MEASURES if self.pair(key) != (None, None)]
