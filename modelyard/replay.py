"""``modelyard replay``: what a recorded trace would have cost under each eviction policy.

It drives the server's own code over the trace, in simulated memory of several sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model_server.memory.policies import POLICIES, Policy
from model_server.memory.simulation import Cache
from modelyard.report import in_words
from modelyard.trace_files import COLUMNS, FORMATS, read_trace
from modelyard.traces import Trace, TraceError, counted, saved_sizes

DEFAULT_POLICIES = "cost_aware,lru"
DEFAULT_MEMORY = "10%,20%,40%"
REFERENCE = "lru"

_COLUMNS = (
    "In the table, `misses` are uses that did not find their model in memory, first uses included, "
    "and `refused` those of them for which no room could be made (507); `reload s` is the time of "
    "all loads, those of refused uses included, `of lru` that time as a share of lru's in the same "
    "memory, and `p99 wait` the wait for a load that 99 of 100 uses do not exceed."
)
_PLATFORM = (
    "platform evicts nothing: each use of a model that does not fit is refused, and is charged the "
    "seconds of a load all the same, although nothing is loaded"
)
_LEAST_BYTES = 1 << 20
_PROGRESS_USES = 20_000
_TELL_SECONDS = 0.5

Progress = Callable[[float], None]

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
        trace.finish(saved_sizes(options.sizes))
        memory = [(text, _bytes(text, trace)) for text in options.memory.split(",")]
        if "platform" in {policy.name for policy in policies}:
            trace.notes.append(_PLATFORM)
        rows = replay(trace, policies, memory, _Progress() if sys.stderr.isatty() else None)
        if options.output is not None:
            _write(rows, trace, options.output)
    except (TraceError, OSError) as error:
        place = "" if isinstance(error, OSError) else f"{options.trace}: "
        print(f"modelyard replay: {place}{error}", file=sys.stderr)  # noqa: T201
        return 2
    for note in trace.notes:
        print(f"modelyard replay: {note}", file=sys.stderr)  # noqa: T201
    print(json.dumps(as_json(rows, trace), indent=2) if options.json else table(rows, trace))  # noqa: T201
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard replay",
        description="Tell what a trace of requests would have cost under each eviction policy, in "
        "memory of several sizes. It drives the server's own code with a clock of its own.",
        epilog=_COLUMNS + " Exit code: 0 done, 2 the trace could not be used.",
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
    add(
        "--sizes",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a saved answer of GET /memory: bytes by model; may be given more than once",
    )
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
    if not text.strip().endswith("%") and size < _LEAST_BYTES:
        raise TraceError(
            f"--memory: {share} bytes are less than 1 MiB; a share has a percent sign: {share}%"
        )
    return int(size)


def replay(
    trace: Trace,
    policies: Sequence[Policy],
    memory: Sequence[tuple[str, int]],
    progress: Progress | None = None,
) -> list[Row]:
    """Go over the trace once for each policy and size.

    ``progress`` is told now and then how much of all that is done: from 0 to 1.
    """
    rows, runs = [], len(policies) * len(memory)
    for index, (text, size) in enumerate(memory):
        found = []
        for place, policy in enumerate(policies, index * len(policies)):
            found.append(_run(trace, policy, size, _part(progress, place, runs)))
        reference = next((c for c, _ in found if c.policy.name == REFERENCE), None)
        rows += [_row(text.strip(), cache, waits, reference) for cache, waits in found]
    return rows


def _part(progress: Progress | None, place: int, runs: int) -> Progress:
    """Tells the progress of one run as that of all."""
    if progress is None:
        return lambda _: None
    return lambda share: progress((place + share) / runs)


class _Progress:
    """A line on a terminal, from the second second on; it is gone when all is done."""

    def __init__(self) -> None:
        self._told_at = time.monotonic() + 1

    def __call__(self, share: float) -> None:
        if share >= 1:
            sys.stderr.write("\r\x1b[K")
        elif time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            sys.stderr.write(f"\rreplaying: {share:.0%} ")
        sys.stderr.flush()


def _run(
    trace: Trace, policy: Policy, limit_bytes: int, progress: Progress
) -> tuple[Cache, list[int]]:
    """The cache after the whole trace, and how many waits fell into each bucket."""
    cache, waits = Cache(policy, limit_bytes), [0] * (len(_BOUNDS) + 1)
    use, names = cache.use, trace.names
    sizes, seconds = trace.size_bytes, trace.reload_seconds
    for done, (at, number) in enumerate(trace.uses()):
        if not done % _PROGRESS_USES:
            progress(done / len(trace.times))
        access = use(names[number], sizes[number], seconds[number], at)
        if not access.hit:
            waits[bisect_left(_BOUNDS, access.seconds)] += 1
    progress(1.0)
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
        f"{counted(len(trace.times), 'use')} of {counted(len(set(trace.models)), 'model')}, "
        f"{_shown(trace.total_bytes)} together",
        "",
        f"{'memory':>20}  {'policy':<12}{'hits':>9}{'misses':>12}{'refused':>9}"
        f"{'reload s':>13}{'of lru':>9}{'p99 wait':>11}",
    ]
    for row in rows:
        size = _shown(row.memory_bytes)
        where = f"{row.memory} ({size})" if "%" in row.memory else size
        relative = "" if row.relative_seconds is None else f"{row.relative_seconds:.1%}"
        lines.append(
            f"{where:>20}  {row.policy:<12}{row.hit_ratio:>9.2%}{row.misses:>12,}{row.refused:>9,}"
            f"{row.reload_seconds:>13,.1f}{relative:>9}{row.p99_wait_seconds:>9.2f} s"
        )
    return "\n".join(lines)


def _shown(size: int) -> str:
    if size < 1 << 30:
        return in_words(size)
    return f"{size / (1 << 30):,.1f} GiB" if size < 1 << 40 else f"{size / (1 << 40):,.1f} TiB"


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
