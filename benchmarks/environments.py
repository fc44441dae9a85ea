"""What it costs a model to have packages of its own."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from pathlib import Path

from benchmarks.bench import Bench, milliseconds
from benchmarks.models import Model
from benchmarks.results import OURS
from benchmarks.servers import Server

PACKAGE = "bench_dependency"
ROUNDS = 9
COLD_ROUNDS = 3


def environment(bench: Bench) -> None:
    """The first load, which builds; then loads with and without, zygotes warm and not."""
    wheel = write_wheel(bench.directory / "wheels")
    plain, needing = bench.models.tiny(0), bench.models.needing(PACKAGE, wheel)
    settings = {"MODELYARD_ENVIRONMENTS_DIR": str(bench.directory / "environments")}
    record = bench.results.record
    with bench.ours(settings) as server:
        server.warm_up(plain)
        record("environment-build", OURS, [milliseconds(server.load, needing)])
        server.invoke(needing)
        server.unload(needing)
        _record(bench, "", _warm(bench, server, plain, needing))
    cold: dict[Model, list[float]] = defaultdict(list)
    for number in range(bench.rounds(COLD_ROUNDS)):
        with bench.ours({**settings, "MODELYARD_PRELOAD": "none"}) as server:
            for model in (plain, needing) if number % 2 == 0 else (needing, plain):
                cold[model].append(milliseconds(server.load, model))
    _record(bench, "-cold", (cold[plain], cold[needing]))


def _warm(
    bench: Bench, server: Server, plain: Model, needing: Model
) -> tuple[list[float], list[float]]:
    """Load one and the other in turn."""
    times: dict[Model, list[float]] = defaultdict(list)
    for _ in range(3 if bench.quick else ROUNDS):
        for model in (plain, needing):
            times[model].append(milliseconds(server.load, model))
            server.unload(model)
    return times[plain], times[needing]


def _record(bench: Bench, suffix: str, times: tuple[list[float], list[float]]) -> None:
    record, values = bench.results.record, bench.results.values
    without = f"environment-plain{suffix}"
    with_it = f"environment{suffix or '-cached'}"
    record(without, OURS, times[0])
    record(with_it, OURS, times[1])
    ratio = values[with_it, OURS] / values[without, OURS]
    record(f"environment{suffix}-ratio", OURS, [ratio])


def write_wheel(directory: Path) -> Path:
    """A package with one empty module, as pip installs it."""
    directory.mkdir()
    stem = f"{PACKAGE}-1.0"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{PACKAGE}.py", "")
        head = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", head)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return path
