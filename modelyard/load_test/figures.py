"""The figures of a run as plain data: what ``--json`` writes, and what all reports tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from endpoint.metrics.statistics import Statistics
from modelyard.load_test.tally import Sort, Tally
from modelyard.traces import counted

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}

# As large a share of late requests may be chance.
_HICCUPS = 0.01


@dataclass(slots=True)
class Run:
    """A run and how it ended. ``settings`` are those of the run, as one reads them.

    ``unsent`` requests had no chance to begin; ``lost`` processes of ours ended before their time.
    ``warm_up`` has what came before and does not count.
    """

    endpoint: str
    settings: dict[str, str]
    targets: Sequence[str]
    tally: Tally
    warm_up: Tally
    open_loop: bool
    began: float  # seconds since 1970
    seconds: float = 0.0
    unsent: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)


def name_of(target: str) -> str:
    """A model as it is shown: an endpoint of one model has no name for it."""
    return target or "(the endpoint's model)"


def latency(values: Statistics) -> dict[str, float] | None:
    """Milliseconds; None of nothing."""
    if not values.count:
        return None
    shares = {name: values.quantile(share) for name, share in QUANTILES.items()}
    figures = {"mean": values.mean, "least": values.least, **shares, "most": values.most}
    return {name: round(figure, 3) for name, figure in figures.items()}


def as_json(run: Run) -> dict[str, Any]:
    """All figures."""
    tally = run.tally
    return {
        "endpoint": run.endpoint,
        "settings": run.settings,
        "began": run.began,
        "seconds": round(run.seconds, 3),
        "models": len(run.targets),
        "models_used": sum(1 for count in tally.requests_of if count),
        "requests": tally.requests,
        "answered": tally.answered,
        "failed": tally.failed,
        "unsent": run.unsent,
        "requests_per_second": round(rate(run), 3),
        "latency_ms": latency(tally.latency),
        "by_sort": {
            sort.value: {"requests": values.count, "latency_ms": latency(values)}
            for sort, values in tally.by_sort.items()
        },
        "loading_wait_ms": latency(tally.loading_wait),
        "not_ready": {
            "requests": tally.not_ready_requests,
            "answers": tally.not_ready_answers,
        },
        "late": {
            "requests": tally.late,
            "because_of_max_in_flight": tally.crowded,
            "lateness_ms": latency(tally.lateness),
        },
        "most_in_flight": tally.most_in_flight,
        "errors": errors(run),
        "warm_up": {"requests": run.warm_up.requests, "failed": run.warm_up.failed},
        "per_model": per_model(run),
        "timeline": timeline(tally),
        "notes": run.notes,
    }


def rate(run: Run) -> float:
    """Answered requests a second."""
    return run.tally.answered / run.seconds if run.seconds else 0.0


def errors(run: Run) -> list[dict[str, Any]]:
    """The most frequent first."""
    kinds = sorted(run.tally.errors.items(), key=lambda item: -item[1].count)
    return [
        {
            "kind": name,
            "requests": kind.count,
            "first_words": kind.words,
            "first_at": round(kind.first_at, 3),
            "models": [run.targets[number] for number in kind.models],
        }
        for name, kind in kinds
    ]


def per_model(run: Run) -> list[dict[str, Any]]:
    """Those that were asked for, the most used first."""
    tally = run.tally
    used = [number for number, count in enumerate(tally.requests_of) if count]
    used.sort(key=lambda number: -tally.requests_of[number])
    return [
        {
            "model": run.targets[number],
            "requests": tally.requests_of[number],
            "cold": tally.cold_of[number],
            "errors": tally.errors_of[number],
            "mean_latency_ms": _mean(tally, number),
        }
        for number in used
    ]


def _mean(tally: Tally, number: int) -> float | None:
    answered = tally.requests_of[number] - tally.errors_of[number]
    return round(tally.latency_of[number] / answered, 3) if answered else None


def timeline(tally: Tally) -> dict[str, Any]:
    """By slots of time; latency is of what was answered in them."""
    slots = tally.timeline.slots
    return {
        "slot_seconds": tally.timeline.width,
        "planned": [slot.planned for slot in slots],
        "answered": [slot.latency.count for slot in slots],
        "cold": [slot.cold for slot in slots],
        "errors": [slot.errors for slot in slots],
        "p50_ms": [_quantile(slot.latency, 0.5) for slot in slots],
        "p99_ms": [_quantile(slot.latency, 0.99) for slot in slots],
    }


def _quantile(values: Statistics, share: float) -> float | None:
    return round(values.quantile(share), 3) if values.count else None


def client_words(run: Run) -> list[str]:
    """Whether the client itself was in the way, and other things that figures do not tell."""
    tally, words = run.tally, []
    late = tally.late - tally.crowded
    if tally.crowded:
        words.append(
            f"{counted(tally.crowded, 'request')} began late because as many as --max-in-flight "
            "allows were running: the endpoint did not keep up (their latency includes the wait)"
        )
    if late > _HICCUPS * tally.requests:
        words.append(
            f"{counted(late, 'request')} began more than 50 ms late although more were allowed in "
            "flight: this client is the limit. Give it more --processes, or a machine of its own"
        )
    if run.unsent:
        words.append(
            f"{counted(run.unsent, 'request')} had a time and did not begin before the end: "
            "latencies are better than users of that rate would have seen"
        )
    if run.lost:
        words.append(f"{run.lost} of our sending processes ended early: their part is missing")
    if run.warm_up.failed:
        kind, first = next(iter(run.warm_up.errors.items()))
        words.append(
            f"{run.warm_up.failed:,} of {run.warm_up.requests:,} warm-up requests failed; the "
            f"first: {kind}: {first.words}"
        )
    return [*run.notes, *words]


def sorts_told(tally: Tally) -> list[Sort]:
    """Those that there were."""
    return [sort for sort in Sort if tally.by_sort[sort].count]
