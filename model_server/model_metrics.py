"""The metrics of each model, written as text at once: thousands of models make most of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from model_server.model import Model
from model_server.stats import BUCKET_SECONDS, Totals

_BOUNDS = [*(str(seconds) for seconds in BUCKET_SECONDS), "+Inf"]
_NS = 1e-9
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True)
class ModelNumbers:
    """What there is to tell of one model at one moment."""

    name: str
    state: str
    workers: int
    busy: int
    queued: int
    restarts: int
    private_bytes: int
    totals: Totals


def numbers_of(model: Model, waiting: Mapping[int, int]) -> ModelNumbers:
    """The numbers of now; ``waiting`` are connections in queues by their sockets."""
    return ModelNumbers(
        name=model.name,
        state=model.state.value,
        workers=len(model.workers),
        busy=sum(worker.busy_since_ns != 0 for worker in model.workers),
        queued=waiting.get(model.inode, 0),
        restarts=model.restarts,
        private_bytes=model.held_bytes,
        totals=model.counted(),
    )


def model_lines(models: Sequence[ModelNumbers]) -> Iterator[str]:
    """All lines, in Prometheus' text format."""
    labels = [f'model="{model.name.translate(_ESCAPED)}"' for model in models]
    for name, kind, text, value in _VALUES:
        yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        for label, model in zip(labels, models, strict=True):
            yield f"{name}{{{label}}} {value(model)}\n"
    name = "modelyard_handler_seconds"
    yield f"# HELP {name} Time in the model's code.\n# TYPE {name} histogram\n"
    for label, model in zip(labels, models, strict=True):
        if model.totals.finished:  # a model that was never used has nothing to tell here
            yield _histogram(name, label, model.totals)


def _histogram(name: str, label: str, totals: Totals) -> str:
    counts = list(accumulate(totals.buckets))
    lines = [
        f'{name}_bucket{{{label},le="{bound}"}} {count}\n'
        for bound, count in zip(_BOUNDS, counts, strict=True)
    ]
    lines.append(f"{name}_count{{{label}}} {counts[-1]}\n")
    lines.append(f"{name}_sum{{{label}}} {totals.handler_ns * _NS}\n")
    return "".join(lines)


_VALUES: tuple[tuple[str, str, str, Callable[[ModelNumbers], float]], ...] = (
    (
        "modelyard_model_workers",
        "gauge",
        "Processes of the model.",
        lambda model: model.workers,
    ),
    (
        "modelyard_model_in_flight",
        "gauge",
        "Requests in the model's code.",
        lambda model: model.busy,
    ),
    (
        "modelyard_model_queued",
        "gauge",
        "Requests waiting for the model.",
        lambda model: model.queued,
    ),
    (
        "modelyard_model_bytes",
        "gauge",
        "Private memory of the model.",
        lambda model: model.private_bytes,
    ),
    (
        "modelyard_invokes_total",
        "counter",
        "Requests that the model finished.",
        lambda model: model.totals.finished,
    ),
    (
        "modelyard_invoke_errors_total",
        "counter",
        "Of these, failed ones.",
        lambda model: model.totals.failed,
    ),
    (
        "modelyard_invokes_skipped_total",
        "counter",
        "Requests not started because the client had left.",
        lambda model: model.totals.skipped,
    ),
    (
        "modelyard_queue_seconds_total",
        "counter",
        "Time that requests waited for the model.",
        lambda model: model.totals.queue_ns * _NS,
    ),
    (
        "modelyard_batches_total",
        "counter",
        "Batches of two requests and more.",
        lambda model: model.totals.batches,
    ),
    (
        "modelyard_model_restarts_total",
        "counter",
        "Processes replaced.",
        lambda model: model.restarts,
    ),
)
