"""The report as text."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from endpoint.metrics.statistics import Statistics
from modelyard.load_test import figures
from modelyard.load_test.figures import Run
from modelyard.load_test.tally import Sort

_SORTS = {
    Sort.WARM: "warm",
    Sort.COLD: "cold",
    Sort.FIRST: "first of its model",
    Sort.ERROR: "failed",
}
_WIDTH = 18
_MODELS = 5
_WORDS_CHARS = 300
_LINE = 100


def summary(run: Run) -> str:
    """Lines for people."""
    return "\n".join(_lines(run))


def milliseconds(value: float) -> str:
    """Such as "4.2 ms", "420 ms" and "4.20 s"."""
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def one_line(text: str) -> str:
    """Words of others: without what would move the cursor, and not too long."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= _WORDS_CHARS else f"{plain[:_WORDS_CHARS]}…"


def _lines(run: Run) -> Iterator[str]:
    tally = run.tally
    used = sum(1 for count in tally.requests_of if count)
    yield f"{'endpoint':<{_WIDTH}}{run.endpoint}, {used:,} of {len(run.targets):,} models asked for"
    failed = f", {tally.failed:,} failed" if tally.failed else ""
    yield (
        f"{'requests':<{_WIDTH}}{tally.requests:,} in {run.seconds:.1f} s{failed}; "
        f"{figures.rate(run):,.1f} answered a second"
    )
    yield ""
    yield _row("latency", "requests", *(name.replace("_", ".") for name in _shown()), "max")
    yield _latency("all answered", tally.latency)
    for sort in figures.sorts_told(tally):
        yield _latency(_SORTS[sort], tally.by_sort[sort])
    if tally.loading_wait.count:
        yield _latency("wait for a model", tally.loading_wait)
    if tally.not_ready_requests:
        yield ""
        yield (
            f"not ready: {tally.not_ready_requests:,} requests were told "
            f"{tally.not_ready_answers:,} times that their model is still being loaded"
        )
    yield from _errors(run)
    yield from _models(run)
    for words in figures.client_words(run):
        yield ""
        yield fill(one_line(words), _LINE, subsequent_indent="  ", break_long_words=False)


def _shown() -> list[str]:
    return [name for name in figures.QUANTILES if name != "p95"]


def _row(name: str, *cells: str) -> str:
    return f"{name:<{_WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)


def _latency(name: str, values: Statistics) -> str:
    found = figures.latency(values)
    if found is None:
        return _row(name, "0")
    shown = (milliseconds(found[key]) for key in (*_shown(), "most"))
    return _row(name, f"{values.count:,}", *shown)


def _errors(run: Run) -> Iterator[str]:
    found = figures.errors(run)
    if found:
        yield ""
        yield "errors"
    for each in found:
        models = ", ".join(figures.name_of(one_line(name)) for name in each["models"])
        yield f"  {each['requests']:,} x {one_line(each['kind'])}, of {models}; the first:"
        yield f"      {one_line(each['first_words'])}"


def _models(run: Run) -> Iterator[str]:
    rows = figures.per_model(run)
    if len(run.targets) < 2 or not rows:
        return
    yield ""
    yield "most used models"
    for row in rows[:_MODELS]:
        mean = row["mean_latency_ms"]
        yield (
            f"  {row['requests']:>8,} requests, {row['cold']:,} cold, {row['errors']:,} failed, "
            f"mean {'-' if mean is None else milliseconds(mean)}  {one_line(row['model'])}"
        )
