import sys


def model_fn(model_dir):
    sys.exit(3)


def transform_fn(model, body, content_type, accept):
    return body
