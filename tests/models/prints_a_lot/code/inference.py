"""Prints 50 MB to standard output and some to standard error, then answers."""

import sys

LINE = "x" * 99 + "\n"


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    for _ in range(500):
        sys.stdout.write(LINE * 1000)
    sys.stderr.write(LINE * 1000)
    return "printed"
