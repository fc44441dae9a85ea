"""The plots of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from endpoint.metrics.statistics import Statistics
from modelyard.load_test import scales
from modelyard.load_test.charts import Chart
from modelyard.load_test.figures import Run, name_of, per_model
from modelyard.load_test.scales import Scale
from modelyard.load_test.summary import milliseconds, one_line
from modelyard.load_test.tally import Sort, Tally
from modelyard.load_test.timeline import Slot, Timeline

NAMES = {
    Sort.WARM: "warm",
    Sort.COLD: "cold: waited for its model",
    Sort.FIRST: "first request for its model",
    Sort.ERROR: "failed",
}

# With more slots a line is noise.
_MOST_SLOTS = 120
_CURVE_POINTS = 160
_MOST_BARS = 60


def plots(run: Run) -> list[str]:
    """As SVG."""
    slots, width = _slots(run.tally.timeline)
    end = max(run.seconds, width * len(slots))
    times = scales.seconds(end)
    latencies = _latencies(run.tally)
    drawn = [
        _latency_over_time(run.tally, slots, width, times, latencies),
        _distribution(run.tally, latencies),
        _rate(run, slots, width, times),
    ]
    if len(run.targets) > 1:
        drawn += _by_rank(run)
    return drawn


def _slots(timeline: Timeline) -> tuple[list[Slot], float]:
    """Fewer and wider ones; the timeline itself is left as it is."""
    slots, width = timeline.slots, timeline.width
    while len(slots) > _MOST_SLOTS or (width < 1 and len(slots) > 20):
        slots, width = (
            [_both(slots[place : place + 2]) for place in range(0, len(slots), 2)],
            (2 * width),
        )
    return slots, width


def _both(slots: Sequence[Slot]) -> Slot:
    found = Slot()
    for slot in slots:
        found.merge(slot)
    return found


def _latencies(tally: Tally) -> Scale:
    kinds = [values for values in tally.by_sort.values() if values.count]
    low = min((max(values.least, 0.1) for values in kinds), default=1.0)
    high = max((values.most for values in kinds), default=10.0)
    return scales.logarithmic(low, max(high, low), _short)


def _short(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def _latency_over_time(
    tally: Tally, slots: Sequence[Slot], width: float, times: Scale, latencies: Scale
) -> str:
    chart = Chart("Latency over time", times, latencies)
    for sort in Sort:
        chart.dots(tally.samples[sort].points, sort.value, NAMES[sort])
    for share, kind, name in ((0.5, "p50", "p50"), (0.99, "p99", "p99")):
        middles = [
            (width * (index + 0.5), slot.latency.quantile(share) if slot.latency.count else None)
            for index, slot in enumerate(slots)
        ]
        chart.line(middles, kind, f"{name} of the answered")
    return chart.svg()


def _distribution(tally: Tally, latencies: Scale) -> str:
    shares = scales.percentiles(tally.answered)
    chart = Chart("Latency by percentile", shares, latencies)
    for sort in (Sort.WARM, Sort.COLD, Sort.FIRST):
        chart.line(_curve(tally.by_sort[sort], shares), sort.value, NAMES[sort])
    chart.line(_curve(tally.latency, shares), "all", "all answered")
    return chart.svg()


def _curve(values: Statistics, shares: Scale) -> list[tuple[float, float | None]]:
    """As far as there are enough values to speak of a percentile."""
    if not values.count:
        return []
    last = min(shares.high, 1 - 1 / max(values.count, 2))
    reach = -math.log10(1 - last)
    steps = (1 - 10 ** (-reach * step / _CURVE_POINTS) for step in range(_CURVE_POINTS + 1))
    return [(share, values.quantile(share) if share else values.least) for share in steps]


def _rate(run: Run, slots: Sequence[Slot], width: float, times: Scale) -> str:
    """Of whole slots: one that the run only began says little."""
    whole = slots[: max(1, int(run.seconds / width + 0.5))]
    rows = {
        ("warm", "answered"): [slot.latency.count for slot in whole],
        ("cold", "cold, or first of a model"): [slot.cold for slot in whole],
        ("error", "failed"): [slot.errors for slot in whole],
    }
    if run.open_loop:
        rows = {("planned", "planned"): [slot.planned for slot in whole], **rows}
    shown = {name: counts for name, counts in rows.items() if any(counts)}
    highest = max((max(counts) for counts in shown.values()), default=1) / width
    chart = Chart("Requests a second", times, scales.linear(highest))
    for (kind, name), counts in shown.items():
        points = [(width * (index + 0.5), count / width) for index, count in enumerate(counts)]
        chart.line(points, kind, name)
    return chart.svg()


def _by_rank(run: Run) -> list[str]:
    """Models by how often they were asked for; where there are many, neighbours share a bar."""
    rows = per_model(run)
    count = len(rows)
    edges = sorted({round(count * step / _MOST_BARS) for step in range(_MOST_BARS + 1)})
    if count <= _MOST_BARS:
        edges = list(range(count + 1))
    requests, shares, failures = [], [], []
    for begin, end in pairwise(edges):
        those = rows[begin:end]
        total = sum(row["requests"] for row in those)
        mean = total / (end - begin)
        cold = sum(row["cold"] for row in those) / total
        failed = sum(row["errors"] for row in those) / total
        who = (
            one_line(name_of(those[0]["model"]))
            if len(those) == 1
            else f"rank {begin + 1} to {end}"
        )
        waits = milliseconds(those[0]["mean_latency_ms"] or 0) if len(those) == 1 else ""
        told = f"{who}: {mean:,.4g} requests, {cold:.1%} cold, {failed:.1%} failed"
        told += f", mean {waits}" if waits else ""
        requests.append((begin, end, mean, told))
        shares.append((begin, end, 100 * (cold + failed), told))
        failures.append((begin, end, 100 * failed, told))
    ranks = _ranks(count)
    least = min(bar[2] for bar in requests)
    most = max(bar[2] for bar in requests)
    wide = most > 30 * max(least, 1)
    y = scales.logarithmic(1, most, "{:,g}".format) if wide else scales.linear(most, whole=True)
    first = Chart("Requests by rank of model", ranks, y)
    first.bars(requests, "warm", "requests")
    if not run.tally.cold and not run.tally.failed:
        return [first.svg()]
    second = Chart(
        "Cold and failed share by rank of model", ranks, scales.linear(100, "{:g} %".format)
    )
    if run.tally.cold:
        second.bars(shares, "cold", "cold, or first of the model")
    if run.tally.failed:
        second.bars(failures, "error", "failed")
    return [first.svg(), second.svg()]


def _ranks(count: int) -> Scale:
    ticks = [tick for tick in scales.linear(count, whole=True).ticks if 0 < tick <= count]
    # A tick stands at the end of its bar.
    return Scale(0, count, (*ticks,), label="{:,g}".format)
