"""The command line: ``python -m benchmarks [--quick] [--only NAME ...]``, used by scripts/bench."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    admission,
    batch,
    cycles,
    endpoint_cold,
    endpoint_fleet,
    endpoint_large,
    endpoint_metrics,
    endpoint_warm,
    environments,
    frameworks,
    idle,
    image,
    load,
    memory,
    page,
    pressure,
    report,
    returns,
    streams,
    threads,
    throughput,
    workers,
)
from benchmarks.bench import Bench
from benchmarks.models import ModelStore
from benchmarks.results import Results
from benchmarks.servers import ROOT, modelyard, multi_model_server

BENCHMARKS: dict[str, Callable[[Bench], None]] = {
    "start": load.start,
    "tiny": load.tiny,
    "large": load.large,
    "at-once": load.at_once,
    "memory": memory.memory,
    "rates": throughput.rates,
    "bodies": throughput.large_bodies,
    "neighbour": throughput.neighbour,
    "batch": batch.batch,
    "second-worker": workers.second_worker,
    "environment": environments.environment,
    "stream": streams.stream,
    "threads": threads.threads,
    "frameworks": frameworks.frameworks,
    "pressure": pressure.pressure,
    "returns": returns.returns,
    "admission": admission.admission,
    "idle": idle.idle,
    "cycles": cycles.cycles,
    "endpoint-warm": endpoint_warm.warm,
    "endpoint-cold": endpoint_cold.cold,
    "endpoint-large": endpoint_large.large,
    "endpoint-fleet": endpoint_fleet.fleet,
    "endpoint-metrics": endpoint_metrics.metrics,
    "page": page.page,
    "image": image.image,
}
ALONE = (  # Modelyard only
    *("second-worker", "environment", "stream", "threads", "frameworks"),
    *("pressure", "returns", "admission", "idle", "cycles"),
    *("endpoint-warm", "endpoint-cold", "endpoint-large", "endpoint-fleet", "endpoint-metrics"),
    *("page", "image"),
)
ASKED_FOR = ("image",)  # they need what few machines have: only with --only
SERVERS = ("modelyard", "multi-model-server")
LIMIT_SECONDS = 45 * 60


def main() -> int:
    """Run what was asked for; 1 if a benchmark failed (a missed target is news, not a failure)."""
    arguments = _parse()
    _stop_cleanly()
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as scratch:
        bench = _prepare(Path(scratch).resolve(), arguments)
        for name in arguments.only:
            if "modelyard" in arguments.server or name not in ALONE:
                _run(name, bench)
    report.print_tables(bench.results)
    output = _output(arguments)
    if output is not None:
        report.write_page(bench.results, output, quick=arguments.quick)
    return 1 if bench.results.failures else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__)
    names = tuple(BENCHMARKS)
    usual = tuple(name for name in names if name not in ASKED_FOR)
    parser.add_argument("--quick", action="store_true", help="each thing once, fewer models")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=usual,
        metavar="NAME",
        help=f"some of: {' '.join(names)}",
    )
    parser.add_argument(
        "--server",
        nargs="+",
        choices=SERVERS,
        default=SERVERS,
        metavar="NAME",
        help=f"some of: {' '.join(SERVERS)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the page there (default: docs, after a full run)",
    )
    return parser.parse_args()


def _stop_cleanly() -> None:
    """End through the ``with`` blocks, which stop the servers, when told to or out of time."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("bench: out of time"))
    signal.alarm(LIMIT_SECONDS)


def _prepare(scratch: Path, arguments: argparse.Namespace) -> Bench:
    results = Results()
    print(f"load average before the run: {results.load_before:.2f}", flush=True)
    (scratch / "models").mkdir()
    models = ModelStore(scratch / "models")
    known = dict(zip(SERVERS, (modelyard(models.root), multi_model_server()), strict=True))
    contenders = tuple(known[name] for name in SERVERS if name in arguments.server)
    return Bench(contenders, models, results, scratch, quick=arguments.quick)


def _run(name: str, bench: Bench) -> None:
    """Run one benchmark; a failure is reported and the others go on."""
    print(f"{name}:", flush=True)
    begin = time.monotonic()
    try:
        BENCHMARKS[name](bench)
    except Exception as error:
        bench.results.failures.append(f"{name}: {error}")
        print(f"  FAILED {error}", flush=True)
    print(f"  ({time.monotonic() - begin:.0f} s)", flush=True)


def _output(arguments: argparse.Namespace) -> Path | None:
    """Only a full run may replace the page in docs/."""
    full = not arguments.quick and set(arguments.only) >= set(BENCHMARKS) - set(ASKED_FOR)
    if arguments.output is None and full and set(arguments.server) == set(SERVERS):
        return ROOT / "docs"
    chosen: Path | None = arguments.output
    return chosen


if __name__ == "__main__":
    sys.exit(main())
