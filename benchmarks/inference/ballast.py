"""Holds its weights in memory and answers with the body it was sent."""

from pathlib import Path
from typing import Any


def model_fn(model_dir: str) -> bytes:
    return (Path(model_dir) / "weights.bin").read_bytes()


def input_fn(data: bytes, content_type: str) -> bytes:
    return data


def predict_fn(data: bytes, model: Any) -> bytes:
    return data


def output_fn(prediction: bytes, accept: str) -> bytes:
    return prediction
