"""Closes standard input, output and error before it answers."""

import os
import sys


def model_fn(model_dir):
    sys.stdout.close()
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    return "model"


def transform_fn(model, body, content_type, accept):
    return "still here"
