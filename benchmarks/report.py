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
PAGE = """\
# Benchmarks

Modelyard beside AWS multi-model-server 1.1.11 (with sagemaker-inference 1.10.1), measured in
{kind} by `./scripts/bench` on {date}.

{machine}

![How many times better Modelyard is](benchmarks.png)

{compared}

{failures}What only Modelyard does, or does here:

{alone}

## Second workers

A model of 400 MB, `min_workers = 1`, `max_workers = 2`, and a queue. *Shared* workers are forked
from the loaded model; *not shared* is `share_weights = false`, where each loads for itself.

{workers}

## Threads

Eight models of ten million parameters, 16 rows a request, all asked at once; then one of them while
the others rest. *Spinning* is `OMP_WAIT_POLICY=ACTIVE`, where threads without work keep their core
busy; Modelyard sets `PASSIVE`.

{threads}

`threads` is 1 unless it is set: a server of many models is the left part of this table, and what
one of them could gain is the right part. On more cores than models ask for at once, set it.

## Frameworks

A tiny model of each framework installed here, without code of its own except for `python`. MXNet
and TensorFlow are not: they have environments of their own.

{frameworks}

## What holds it back

- A model that computes is bound by its own work, in both servers. Of about 0.2 ms that a
  scikit-learn request takes in the model's process, two thirds are `LogisticRegression.predict`
  itself; on two cores, client, gateway and model share what is left. The torch model is all matrix
  product.
- Memory after the start is that of three warm zygotes, one for each framework; `MODELYARD_PRELOAD`
  narrows them. From the second model on it pays back.
- What a batch gains is what the library gains on this machine: the weights are read from memory
  once for 8 rows. Decoding and encoding stay the same for each row.
- Requests that wait are looked for every 100 ms: most of the time until a second worker takes one.
- A load whose zygote is not warm is the import of the framework.

## How to run it

`./scripts/bench` makes both environments (Java and wrk come from Debian when run as root), takes
about 14 minutes and rewrites this page. `--quick` measures each thing once in about 6 minutes,
`--only NAME ...` runs some of the benchmarks; neither touches this page. Nothing else should run on
the machine meanwhile.

## How it was measured

- Both servers load the same directories with the same `code/inference.py`, one worker a model, and
  `OMP_NUM_THREADS=1`. multi-model-server runs AWS's inference toolkit through a handler function.
- Both have loaded and unloaded one tiny torch model before anything but the start is measured. The
  tiny model is `Linear(4, 2)`; files are in the page cache.
- Rates are wrk's, one thread, the servers in turn, the median of 3 rounds of 4 s after a
  warm-up; client and servers share the cores. One failed request fails the benchmark.
- Memory is the proportional set size (PSS) of all processes of a server; private memory is that
  which no other process shares. Each model has answered once. multi-model-server stops at 50
  models. The cost of a further model is the slope between the last two counts.
- What is left after a stop is counted 5 s after the server's first process has gone (or 20 s after
  SIGTERM), with one model loaded.
- The 1 s load beside which the echo is measured sleeps: it shows whether a load blocks, not how the
  cores are shared with a load that computes.
- Batches: one row a request, 32 connections, `batch_size` 8 and 1 in turn, 3 rounds of 2 s; the
  gain is the median of the rounds' own. The custom service with `handle()` is the same in both
  servers; multi-model-server is given `batch_size` and a `max_batch_delay` of 100 ms when the model
  is registered.
- Second workers: the time from asking until ready is taken in a process that runs the controller's
  parts (`benchmarks/worker_times.py`), since nobody outside sees the server ask; the median of 9.
  The rest is seen from outside, in a server under 4 clients; both workers have answered when memory
  is looked at. Memory is anonymous memory: mapped weights are page cache.
- Environments: a wheel of one empty module, beside `code/requirements.txt`; loads with and without
  in turn. Where no zygote was warm, `MODELYARD_PRELOAD` was `none`, and the cached environment was
  built by an earlier server.
- Streams: the generator yields the time at which it yields; the client reads the clock when the
  bytes are there. 150 streams one after another, of 6 chunks each with 10 ms between them.
- Threads: a client for each model, which asks again when it has its answer, in NPY; 3 rounds of
  2 s.
- Frameworks: the zygote is not warm at the first load of a server with `MODELYARD_PRELOAD=none`.
  The cost of a further model is that of 8 more, each has answered once.
"""


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
    page = PAGE.format(
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
