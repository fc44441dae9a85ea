"""Echo that takes one second to load. It sleeps: a load that waits, not one that computes."""

import time
from typing import Any

LOAD_SECONDS = 1.0


def model_fn(model_dir: str) -> None:
    time.sleep(LOAD_SECONDS)


def input_fn(data: bytes, content_type: str) -> bytes:
    return data


def predict_fn(data: bytes, model: Any) -> bytes:
    return data


def output_fn(prediction: bytes, accept: str) -> bytes:
    return prediction
