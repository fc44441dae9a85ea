"""Answers with the body it was sent: what is left is the server's own cost."""

from typing import Any


def model_fn(model_dir: str) -> None:
    return None


def input_fn(data: bytes, content_type: str) -> bytes:
    return data


def predict_fn(data: bytes, model: Any) -> bytes:
    return data


def output_fn(prediction: bytes, accept: str) -> bytes:
    return prediction
