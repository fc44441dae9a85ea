"""The body says how many seconds to sleep and, after a space, a file to make before that."""

import time
from pathlib import Path


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    text = body.decode() if isinstance(body, (bytes, bytearray)) else body
    seconds, _, started = text.partition(" ")
    if started:
        Path(started).touch()
    time.sleep(float(seconds))
    return f"slept {seconds}"
