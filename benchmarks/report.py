"""Turns results into the table on the terminal and the page and picture in ``docs/``."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import textwrap
from importlib.metadata import version
from pathlib import Path

from benchmarks.measures import ALONE, COMPARED, GRIDS, MEASURES, TIMES, Grid
from benchmarks.results import OURS, THEIRS, Results

HEAD = ("Measure", "Unit", OURS, THEIRS, "Times better", "Target", "Met")
HEAD_ALONE = ("Measure", "Unit", OURS, "Target", "Met")
WORDS = {"Measure", "Unit", "Target", "Met"}  # columns of text; others are numbers, to the right
NONE = "-"
MET = {None: NONE, True: "yes", False: "no"}
GIB_KIB = 1 << 20
PAGE = Path(__file__).with_name("page.md")

Table = list[tuple[str, ...]]


def print_tables(results: Results) -> None:
    """Show every row, aligned."""
    for table in (_compared(results), _alone(results), *(_grid(results, name) for name in GRIDS)):
        if len(table) > 1:
            widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
            for row in table:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                print("  ".join(cells).rstrip())
            print()
    for failure in results.failures:
        print(f"FAILED {failure}")


def write_page(results: Results, directory: Path, *, quick: bool) -> None:
    """Write ``benchmarks.md`` and ``benchmarks.png`` into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    failures = "".join(f"- failed: {failure}\n" for failure in results.failures)
    page = PAGE.read_text().format(
        date=datetime.date.today().isoformat(),
        machine=_machine(results.load_before),
        compared=_markdown(_compared(results)),
        alone=_markdown(_alone(results)),
        **{name: _markdown(_grid(results, name)) for name in GRIDS},
        failures=f"{failures}\n" if failures else "",
        kind="one quick run (each thing once, short rounds: not for comparing)"
        if quick
        else "one run",
    )
    (directory / "benchmarks.md").write_text(page)
    _plot(results, directory / "benchmarks.png")


def _compared(results: Results) -> Table:
    """What both servers were asked to do."""
    table: Table = [HEAD]
    for key in results.measured(COMPARED):
        measure, (ours, theirs) = MEASURES[key], results.pair(key)
        ratio, met = measure.ratio(ours, theirs), measure.met(ours, theirs)
        times_better = NONE if ratio is None else f"{_number(ratio)}{TIMES}"
        numbers = (_number(ours), _number(theirs), times_better)
        table.append((measure.title, measure.unit, *numbers, measure.target() or NONE, MET[met]))
    return table


def _alone(results: Results) -> Table:
    """What only Modelyard does."""
    table: Table = [HEAD_ALONE]
    for key in results.measured(ALONE):
        measure, (ours, _) = MEASURES[key], results.pair(key)
        met = MET[measure.met(ours, None)]
        target = measure.target() or NONE
        table.append((measure.title, measure.unit, _number(ours), target, met))
    return table


def _grid(results: Results, name: str) -> Table:
    grid: Grid = GRIDS[name]
    heads = (f"{measure.title} ({measure.unit})" for measure in grid.columns.values())
    table: Table = [(grid.rows, *heads)]
    for row in results.rows(name):
        cells = (results.cells.get((name, row, column)) for column in grid.columns)
        table.append((row, *(_number(cell) for cell in cells)))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _markdown(table: Table) -> str:
    head, *rows = table
    rules = ("---" if n == 0 or title in WORDS else "---:" for n, title in enumerate(head))
    lines = [head, tuple(rules), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(load: float) -> str:
    cpu = _field("/proc/cpuinfo", "model name")
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / GIB_KIB
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    return textwrap.fill(
        f"Machine: {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB of memory, Linux "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"{_java()}; {libraries}. Load average before the run: {load:.2f}.",
        width=100,
    )


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _java() -> str:
    asked = subprocess.run(
        ["java", "-version"], capture_output=True, text=True, timeout=30, check=False
    )
    return asked.stderr.splitlines()[0].split(" 20")[0].replace('"', "")


def _plot(results: Results, file: Path) -> None:
    """One bar a measure, log scale: left of 1 multi-model-server is better, right of it ours."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars = [(MEASURES[key].title, ratio) for key, ratio in _ratios(results)]
    titles, ratios = [title for title, _ in bars][::-1], [ratio for _, ratio in bars][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(bars) + 1.2), layout="constrained")
    colours = ["#2a6f97" if ratio >= 1 else "#c1666b" for ratio in ratios]
    drawn = axes.barh(titles, [ratio - 1 for ratio in ratios], left=1, color=colours, height=0.65)
    axes.bar_label(drawn, [f"{_number(ratio)}{TIMES}" for ratio in ratios], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(f"{{x:g}}{TIMES}")
    axes.margins(y=0.01)
    axes.set_xlim(min([0.5, *ratios]) / 3, 2.5 * max([2, *ratios]))
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xlabel(f"times better than {THEIRS} (log scale)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    figure.savefig(file, dpi=130)


def _ratios(results: Results) -> list[tuple[str, float]]:
    """The rows worth a bar: compared, and not one of the many latencies that follow a rate."""
    found = []
    for key in results.measured(COMPARED):
        ratio = MEASURES[key].ratio(*results.pair(key))
        if ratio is not None and (MEASURES[key].target() or not key.endswith(("-p50", "-p99"))):
            found.append((key, ratio))
    return found
