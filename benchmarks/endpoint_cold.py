"""The first answer of models that are in the object store and nowhere else."""

from __future__ import annotations

from statistics import median

from benchmarks.bench import Bench, milliseconds
from benchmarks.endpoint_archives import asked, pack
from benchmarks.endpoint_up import Endpoint
from benchmarks.results import OURS
from benchmarks.servers import BenchmarkError

MODELS = 30
QUICK_MODELS = 10
MIB = 1 << 20
SIZES = (4.5 * MIB, 5.5 * MIB)


def cold(bench: Bench) -> None:
    """One forest of 5 MB after the other; each is another object, so another model."""
    model = bench.models.forest
    archive = pack(model, bench.directory / "forest.tar.gz")
    size = archive.stat().st_size
    if not SIZES[0] <= size <= SIZES[1]:
        raise BenchmarkError(f"the archive has {size / MIB:.1f} MiB, not 5")
    count = QUICK_MODELS if bench.quick else MODELS
    forests = [asked(f"forest-{number}.tar.gz", model) for number in range(1 + count)]
    with Endpoint(bench) as endpoint:
        for forest in forests:
            endpoint.put(forest.target, archive)
        endpoint.serve()
        endpoint.invoke(forests[0])  # connections, and the framework's zygote
        first = [milliseconds(endpoint.invoke, forest) for forest in forests[1:]]
        again = [milliseconds(endpoint.invoke, forest) for forest in forests[1:]]
        steps = {
            kind: [1000 * event["seconds"] for event in endpoint.events(kind)[1:]]
            for kind in ("download", "load")
        }
    _record(bench, first, again, steps)


def _record(
    bench: Bench, first: list[float], again: list[float], steps: dict[str, list[float]]
) -> None:
    record = bench.results.record
    record("endpoint-cold-p50", OURS, first)
    record("endpoint-cold-most", OURS, [max(first)])
    for kind, times in steps.items():
        record(f"endpoint-cold-{kind}", OURS, times)
    record("endpoint-cold-again", OURS, again)
    parts = zip(first, again, steps["download"], steps["load"], strict=True)
    others = [whole - sum(known) for whole, *known in parts]
    record("endpoint-cold-other", OURS, [median(others)])
