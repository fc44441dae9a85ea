"""``modelyard replay``: what a recorded trace would have cost under each eviction policy.

It drives the server's own code over the trace, in simulated memory of several sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model_server.memory.policies import POLICIES, Policy
from model_server.memory.simulation import Cache
from modelyard.report import in_words
from modelyard.trace_files import COLUMNS, FORMATS, read_trace
from modelyard.traces import Trace, TraceError, saved_sizes

DEFAULT_POLICIES = "cost_aware,lru"
DEFAULT_MEMORY = "10%,20%,40%"
REFERENCE = "lru"

# Waits are counted by buckets, each a tenth longer than the one before: 1 ms to 3 hours.
_BOUNDS = [0.0] + [0.001 * 1.1**step for step in range(170)]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one policy in memory of one size. ``memory`` is the size as it was asked for.

    ``relative_seconds`` compares the reload seconds with those of ``lru``, None where there is
    nothing to compare with. ``p99_wait_seconds`` is of all uses, hits included.
    """

    policy: str
    memory: str
    memory_bytes: int
    uses: int
    hit_ratio: float
    misses: int
    refused: int
    reload_seconds: float
    relative_seconds: float | None
    p99_wait_seconds: float


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard replay``; returns the exit code."""
    options = _options(arguments)
    try:
        policies = _policies(options.policies)
        trace = read_trace(options.trace, options.format)
        trace.finish(saved_sizes(options.sizes) if options.sizes else {})
        memory = [(text, _bytes(text, trace)) for text in options.memory.split(",")]
        rows = replay(trace, policies, memory)
        if options.output is not None:
            _write(rows, trace, options.output)
    except (TraceError, OSError) as error:
        place = "" if isinstance(error, OSError) else f"{options.trace}: "
        print(f"modelyard replay: {place}{error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(as_json(rows, trace), indent=2) if options.json else table(rows, trace))  # noqa: T201
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard replay",
        description="Tell what a trace of requests would have cost under each eviction policy, in "
        "memory of several sizes. It drives the server's own code with a clock of its own.",
        epilog="Exit code: 0 done, 2 the trace could not be used.",
    )
    add = parser.add_argument
    add("trace", type=Path, metavar="TRACE", help="a file, or a directory of the Azure format")
    add(
        "--format",
        choices=("auto", *FORMATS),
        default="auto",
        help=f"csv: columns {','.join(COLUMNS)}, the last two may be missing; log: our own log "
        "with MODELYARD_ACCESS_LOG=all",
    )
    add("--policies", default=DEFAULT_POLICIES, metavar="NAMES", help="default: %(default)s")
    add(
        "--memory",
        default=DEFAULT_MEMORY,
        metavar="SIZES",
        help=f"bytes, or shares of all models' ({DEFAULT_MEMORY})".replace("%", "%%"),
    )
    add("--sizes", type=Path, metavar="FILE", help="a saved answer of GET /memory: bytes by model")
    add("--output", type=Path, metavar="DIR", help="write replay.json and replay.png there")
    add("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


def _policies(text: str) -> list[Policy]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in POLICIES:
            raise TraceError(f"there is no policy {name!r}, only {', '.join(POLICIES)}")
    return [POLICIES[name] for name in dict.fromkeys(names)]


def _bytes(text: str, trace: Trace) -> int:
    share = text.strip().removesuffix("%")
    try:
        number = float(share)
        size = number / 100 * trace.total_bytes if text.strip().endswith("%") else number
        if not 1 <= size < float("inf"):
            raise ValueError(text)
    except ValueError:
        raise TraceError(f"--memory: {text!r} is neither bytes nor a share such as 20%") from None
    return int(size)


def replay(
    trace: Trace, policies: Sequence[Policy], memory: Sequence[tuple[str, int]]
) -> list[Row]:
    """Go over the trace once for each policy and size."""
    rows = []
    for text, size in memory:
        found = [_run(trace, policy, size) for policy in policies]
        reference = next((c for c, _ in found if c.policy.name == REFERENCE), None)
        rows += [_row(text.strip(), cache, waits, reference) for cache, waits in found]
    return rows


def _run(trace: Trace, policy: Policy, limit_bytes: int) -> tuple[Cache, list[int]]:
    """The cache after the whole trace, and how many waits fell into each bucket."""
    cache, waits = Cache(policy, limit_bytes), [0] * (len(_BOUNDS) + 1)
    use, names = cache.use, trace.names
    sizes, seconds = trace.size_bytes, trace.reload_seconds
    for at, number in trace.uses():
        access = use(names[number], sizes[number], seconds[number], at)
        if not access.hit:
            waits[bisect_left(_BOUNDS, access.seconds)] += 1
    waits[0] += cache.hits
    return cache, waits


def _row(memory: str, cache: Cache, waits: Sequence[int], reference: Cache | None) -> Row:
    uses = cache.hits + cache.misses
    relative = None
    if reference is not None and reference.reload_seconds > 0:
        relative = cache.reload_seconds / reference.reload_seconds
    return Row(
        policy=cache.policy.name,
        memory=memory,
        memory_bytes=cache.limit_bytes,
        uses=uses,
        hit_ratio=cache.hits / uses,
        misses=cache.misses,
        refused=cache.refused,
        reload_seconds=cache.reload_seconds,
        relative_seconds=relative,
        p99_wait_seconds=_quantile(waits, 0.99),
    )


def _quantile(waits: Sequence[int], share: float) -> float:
    """The bucket's upper bound below which so large a share of the waits lies."""
    left = share * sum(waits)
    for bound, count in zip(_BOUNDS, waits, strict=False):
        left -= count
        if left <= 0:
            return bound
    return _BOUNDS[-1]


def as_json(rows: Sequence[Row], trace: Trace) -> dict[str, object]:
    """All that was found, as plain data."""
    return {
        "uses": len(trace.times),
        "models": len(set(trace.models)),
        "totalBytes": trace.total_bytes,
        "spanSeconds": trace.times[-1] - trace.times[0],
        "notes": trace.notes,
        "rows": [{_camel(name): value for name, value in asdict(row).items()} for row in rows],
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def table(rows: Sequence[Row], trace: Trace) -> str:
    """The same for people."""
    lines = [
        f"{len(trace.times):,} uses of {len(set(trace.models)):,} models, "
        f"{in_words(trace.total_bytes)} together",
        *(f"note: {note}" for note in trace.notes),
        "",
        f"{'memory':>20}  {'policy':<12}{'hits':>9}{'misses':>12}{'refused':>9}"
        f"{'reload s':>13}{'of lru':>9}{'p99 wait':>11}",
    ]
    for row in rows:
        size = in_words(row.memory_bytes)
        where = f"{row.memory} ({size})" if "%" in row.memory else size
        relative = "" if row.relative_seconds is None else f"{row.relative_seconds:.1%}"
        lines.append(
            f"{where:>20}  {row.policy:<12}{row.hit_ratio:>9.2%}{row.misses:>12,}{row.refused:>9,}"
            f"{row.reload_seconds:>13,.1f}{relative:>9}{row.p99_wait_seconds:>9.2f} s"
        )
    return "\n".join(lines)


def _write(rows: Sequence[Row], trace: Trace, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(rows, trace), indent=2)
    (directory / "replay.json").write_text(text + "\n", encoding="utf-8")
    try:
        from modelyard.replay_plot import write_plot
    except ImportError:
        print(  # noqa: T201
            "modelyard replay: no plot without matplotlib: pip install 'modelyard[replay]'",
            file=sys.stderr,
        )
        return
    write_plot(rows, directory / "replay.png")
