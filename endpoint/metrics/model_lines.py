"""The metrics of each model, written as Prometheus text at once.

Thousands of models make most of the page, and prometheus-client takes ten times as long for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from endpoint.metrics.models import Key, ModelTable

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_MICROSECONDS = 1e6
_AT_ONCE = 500  # models

# Name, kind and meaning of each number of a row, in their order.
METRICS = (
    ("modelyard_endpoint_model_invocations_total", "counter", "Requests for a model."),
    ("modelyard_endpoint_model_invocation_errors_total", "counter", "Of these, without a result."),
    (
        "modelyard_endpoint_model_cold_starts_total",
        "counter",
        "Of these, those whose model was not in memory.",
    ),
    (
        "modelyard_endpoint_model_invocation_microseconds_total",
        "counter",
        "Time of requests with a result, all waits included.",
    ),
    (
        "modelyard_endpoint_model_wait_microseconds_total",
        "counter",
        "Time that requests waited for a model to be downloaded and loaded.",
    ),
    (
        "modelyard_endpoint_model_last_invoked_timestamp_seconds",
        "gauge",
        "When the last request for a model ended.",
    ),
)

LABELS = ("endpoint_name", "variant_name", "target_model")

Row = tuple[Key, tuple[float, ...]]


async def rows(models: ModelTable) -> list[Row]:
    """The numbers of now; requests are served in between."""
    found: list[Row] = []
    for key, figures in models.all():
        numbers = (
            figures.invocations,
            figures.errors,
            figures.cold_starts,
            figures.latency_seconds * _MICROSECONDS,
            figures.waited_seconds * _MICROSECONDS,
            figures.last_invoked,
        )
        found.append((key, numbers))
        if len(found) % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def lines(taken: Sequence[Row]) -> Iterator[str]:
    """The text of them."""
    labels = [_labels(key) for key, _ in taken]
    for number, (name, kind, text) in enumerate(METRICS):
        yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        for label, (_, values) in zip(labels, taken, strict=True):
            yield f"{name}{{{label}}} {values[number]}\n"


def _labels(key: Key) -> str:
    pairs = zip(LABELS, key, strict=True)
    return ",".join(f'{label}="{value.translate(_ESCAPED)}"' for label, value in pairs)
