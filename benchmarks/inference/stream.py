"""Yields the time at which it yields, so often and with such pauses as the request says."""

import json
import time
from collections.abc import Iterator
from typing import Any


def model_fn(model_dir: str) -> None:
    return None


def input_fn(data: str | bytes, content_type: str) -> Any:
    return json.loads(data)


def predict_fn(data: Any, model: Any) -> Any:
    return data


def output_fn(prediction: Any, accept: str) -> Iterator[str]:
    return _moments(prediction.get("chunks", 1), prediction.get("pause_seconds", 0.0))


def _moments(chunks: int, pause_seconds: float) -> Iterator[str]:
    for number in range(chunks):
        if number and pause_seconds:
            time.sleep(pause_seconds)
        yield f"t={time.monotonic_ns():017}\n"
