"""What is measured, in which unit, and what was promised: the only place that names a target."""

from __future__ import annotations

from dataclasses import dataclass

TIMES = "\u00d7"
CONNECTIONS = (1, 8, 32)
BATCH = 8


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


@dataclass(frozen=True)
class Grid:
    """A table of our own values alone: a row for each of some things, a column for each measure."""

    heading: str
    rows: str
    columns: dict[str, Measure]


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


COMPARED: dict[str, Measure] = {
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
    "batch-service-1": Measure("torch, 10 M, handle(), batch 1: rate", "rows/s", True),
    "batch-service-8": Measure("torch, 10 M, handle(), batch 8: rate", "rows/s", True),
    "batch-service-gain": Measure(
        "torch, 10 M, handle(): batch 8 over batch 1", TIMES, True, at_least=2.5, compared=False
    ),
}


def _batches() -> dict[str, Measure]:
    kinds = {"npy": ("no code, NPY", 2.5), "json": ("no code, JSON", None)}
    found = {}
    for kind, (what, promised) in kinds.items():
        row = f"torch, 10 M, {what}"
        for size in (1, BATCH):
            found[f"batch-{kind}-{size}"] = Measure(f"{row}, batch {size}: rate", "rows/s", True)
        found[f"batch-{kind}-gain"] = Measure(
            f"{row}: batch {BATCH} over batch 1", TIMES, True, at_least=promised
        )
    return found


def _memory() -> dict[str, Measure]:
    """Models that do not all fit in memory."""
    hot = "Memory for a tenth: p99 of the 5 most used models over that with memory for all"
    return {
        "pressure-errors": Measure("Memory for a tenth, 8 conn.: answers of 5xx", "", at_most=0),
        "pressure-memory": Measure(
            "Memory for a tenth: most memory in use, of the limit", "%", at_most=100
        ),
        "pressure-memory-p50": Measure("Memory for a tenth: memory in use, of the limit", "%"),
        "pressure-looks": Measure("Between two looks at that memory", "ms"),
        "pressure-hot": Measure(hot, TIMES, at_most=1.2),
        "pressure-hot-paced": Measure(f"{hot}, with pauses", TIMES, at_most=1.2),
        "return-p50": Measure("Return of an evicted tiny torch model: p50", "ms", at_most=60),
        "return-p95": Measure("Return of an evicted tiny torch model: p95", "ms"),
        "cycles-ms": Measure("10,000 loads and unloads, 4 at a time: each", "ms"),
        "cycles-evictions": Measure("10,000 loads and unloads: evictions meanwhile", ""),
        "cycles-memory": Measure("10,000 loads and unloads: memory grows by", "MiB", at_most=2),
        "cycles-descriptors": Measure("10,000 loads and unloads: descriptors left", "", at_most=0),
        "cycles-files": Measure("10,000 loads and unloads: files left", "", at_most=0),
        "predicted-first": Measure("Predicted sizes off, first loads", "%"),
        "predicted-again": Measure("Predicted sizes off, second loads", "%"),
        "predicted-mapped": Measure("400 MB of mapped weights, first load: off", "%"),
        "at-once-refused": Measure("40 loads at once, memory for 10: refused", "", at_most=0),
        "at-once-memory": Measure(
            "40 loads at once, memory for 10: most memory in use, of the limit", "%", at_most=100
        ),
        "idle-cpu": Measure("1,000 idle models: controller's CPU, of a core", "%", at_most=1),
        "idle-cpu-traffic": Measure(
            "The same, 20 requests a second: controller's CPU, of a core", "%"
        ),
    }


def _endpoint() -> dict[str, Measure]:
    """The endpoint in front of containers; what its warm requests take is in a grid."""
    added = {
        f"endpoint-added-{share}-{connections}": Measure(
            f"Endpoint, echo of 100 bytes, {connections} conn.: adds to the {share}",
            "ms",
            at_most=1 if (share, connections) == ("p50", 1) else None,
        )
        for connections in (1, 8)
        for share in ("p50", "p99")
    }
    cold = "Cold forest of 5 MB"
    return {
        **added,
        "endpoint-cold-p50": Measure(f"{cold}: first answer, p50", "ms", at_most=150),
        "endpoint-cold-most": Measure(f"{cold}: first answer, longest", "ms"),
        "endpoint-cold-download": Measure(f"{cold}: download and extraction", "ms"),
        "endpoint-cold-load": Measure(f"{cold}: load", "ms"),
        "endpoint-cold-other": Measure(f"{cold}: the rest, first prediction included", "ms"),
        "endpoint-cold-again": Measure(f"{cold}: second answer", "ms"),
        "endpoint-large": Measure(
            "400 MB archive: download with extraction, over the slower alone", TIMES, at_most=1.3
        ),
        "endpoint-large-compressible": Measure(
            "The same, weights that compress well", TIMES, at_most=1.3
        ),
        "endpoint-lost": Measure(
            "1,000 models, 2 instances, 1 killed: answers but 200 and 429", "", at_most=0
        ),
        "endpoint-lost-platform": Measure("The same, the endpoint evicts", "", at_most=0),
        "endpoint-metrics-rate": Measure(
            "Endpoint, echo, 8 conn.: rate with metrics over without", TIMES, True, at_least=0.98
        ),
        "endpoint-metrics-cpu": Measure("The same: its processor time for the metrics", "µs"),
        "endpoint-metrics-share": Measure("The same: of its processor time of a request", "%"),
    }


def _page() -> dict[str, Measure]:
    """The page in Chromium."""
    traffic = "Page, 1,000 models, 200 invokes/s"
    return {
        "page-paint": Measure(f"{traffic}: first paint", "ms", at_most=1000),
        "page-shown": Measure(f"{traffic}: its models are shown", "ms"),
        "page-rate": Measure(f"{traffic}: invokes", "req/s", True),
        "page-long-tasks": Measure(f"{traffic}: tasks over 50 ms", "/min"),
        "page-longest": Measure(f"{traffic}: longest of them", "ms"),
        "page-frames": Measure(f"{traffic}: frames", "/s", True),
        "page-late": Measure(f"{traffic}: frames over 50 ms", "%", at_most=1),
    }


ALONE: dict[str, Measure] = {
    **_batches(),
    "image-size": Measure("Image without frameworks", "MB", at_most=250),
    "image-sklearn-size": Measure("Image with scikit-learn", "MB", at_most=450),
    "image-bare": Measure("Container that only runs Python: start to end", "s"),
    "image-start": Measure("Container: start to the first 200 from /ping", "s", at_most=1.5),
    "image-rebuild": Measure("Image after a change of the code", "s"),
    "second-ready": Measure("Second worker, 400 MB of mapped weights: ready", "ms", at_most=50),
    "second-private": Measure(
        "Second worker, 400 MB of mapped weights: private memory", "MiB", at_most=15
    ),
    "environment-plain": Measure("Tiny torch model: load", "ms"),
    "environment-cached": Measure("The same in a cached environment: load", "ms"),
    "environment-ratio": Measure("Cached environment over none", TIMES, at_most=1.5),
    "environment-plain-cold": Measure("Tiny torch model, zygote not warm: load", "ms"),
    "environment-cold": Measure("The same in a cached environment, zygote not warm: load", "ms"),
    "environment-cold-ratio": Measure(
        "Cached environment over none, zygotes not warm", TIMES, at_most=1.5
    ),
    "environment-build": Measure("First load, which builds the environment", "ms"),
    "stream-first-p50": Measure("Stream: first yield to client, p50", "ms", at_most=5),
    "stream-first-p99": Measure("Stream: first yield to client, p99", "ms", at_most=5),
    "stream-later-p50": Measure("Stream, 10 ms apart: later yields to client, p50", "ms"),
    "stream-later-p99": Measure("Stream, 10 ms apart: later yields to client, p99", "ms"),
    "stream-jitter-p50": Measure("Intervals received beside those made, off by, p50", "ms"),
    "stream-jitter-p99": Measure("Intervals received beside those made, off by, p99", "ms"),
    "stream-rate": Measure("Stream of 20,000 chunks of 20 bytes: rate", "chunks/s", True),
    **_memory(),
    **_endpoint(),
    **_page(),
}

MEASURES: dict[str, Measure] = {**COMPARED, **ALONE}

GRIDS: dict[str, Grid] = {
    "workers": Grid(
        "Second workers",
        "400 MB of weights",
        {
            "ready": Measure("From asking until ready", "ms"),
            "private": Measure("Its private memory", "MiB"),
            "grown": Measure("More memory in all", "MiB"),
            "scaled": Measure("From the first that waits until it takes one", "ms"),
        },
    ),
    "threads": Grid(
        "Threads",
        "`threads`",
        {
            "rate": Measure("8 models at once", "rows/s", True),
            "p50": Measure("p50", "ms"),
            "p99": Measure("p99", "ms"),
            "rate-alone": Measure("1 model alone", "rows/s", True),
            "p50-alone": Measure("p50 alone", "ms"),
        },
    ),
    "returns": Grid(
        "Returns",
        "Weights",
        {
            "p50": Measure("Room is free: p50", "ms"),
            "p95": Measure("p95", "ms"),
            "evicting-p50": Measure("Another model leaves for it: p50", "ms"),
            "evicting-p95": Measure("p95", "ms"),
        },
    ),
    "pressure": Grid(
        "More models than fit",
        "Memory for",
        {
            "rate": Measure("Rate", "req/s", True),
            "hot-p50": Measure("The 5 most used: p50", "ms"),
            "hot-p99": Measure("The 5 most used: p99", "ms"),
            "p99": Measure("All: p99", "ms"),
            "returns": Measure("Returns in 1,000 requests", ""),
            "reload": Measure("Reload time of a request", "ms"),
            "errors": Measure("4xx and 5xx", ""),
        },
    ),
    "frameworks": Grid(
        "Frameworks",
        "Framework",
        {
            "warm": Measure("Load, zygote warm", "ms"),
            "cold": Measure("Load, zygote not warm", "ms"),
            "private": Measure("Private memory, each further model", "MiB"),
            "zygote": Measure("The zygote's private memory", "MiB"),
        },
    ),
    "endpoint_warm": Grid(
        "The endpoint",
        "Way",
        {
            "rate": Measure("Rate", "req/s", True),
            "p50": Measure("p50", "ms"),
            "p99": Measure("p99", "ms"),
        },
    ),
    "endpoint_large": Grid(
        "Large archives",
        "400 MB of weights",
        {
            "size": Measure("Archive", "MB"),
            "download": Measure("Download alone", "s"),
            "extraction": Measure("Extraction alone", "s"),
            "both": Measure("Both, by the endpoint", "s"),
            "ratio": Measure("Both over the slower", TIMES),
        },
    ),
    "endpoint_fleet": Grid(
        "Many models",
        "Evicted by",
        {
            "answers": Measure("Answers", "", True),
            "refused": Measure("429", ""),
            "lost": Measure("Other than 200 and 429", ""),
            "warm-p50": Measure("Warm: p50", "ms"),
            "warm-p99": Measure("Warm: p99", "ms"),
            "cold-p50": Measure("Cold: p50", "ms"),
            "cold-p99": Measure("Cold: p99", "ms"),
            "cold": Measure("Cold in 1,000", ""),
            "reloads": Measure("Returned by the container in 1,000", ""),
            "moved": Measure("Models moved", ""),
        },
    ),
}
