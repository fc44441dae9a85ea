"""Takes MIB when it is loaded, and as much again with its first request."""

import os

MIB = int(os.environ.get("MIB", "50"))


def model_fn(model_dir):
    return [b"x" * (MIB << 20)]


def transform_fn(model, body, content_type, accept):
    if len(model) == 1:
        model.append(b"y" * (MIB << 20))
    return str(MIB * len(model))
