"""Loads for as many seconds as the file ``seconds`` says, else 2; answers when it was done."""

import time
from pathlib import Path


def model_fn(model_dir):
    seconds = Path(model_dir, "seconds")
    time.sleep(float(seconds.read_text()) if seconds.exists() else 2.0)
    return time.time()


def transform_fn(model, body, content_type, accept):
    return str(model)
