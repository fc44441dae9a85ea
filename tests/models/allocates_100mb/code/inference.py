"""Holds 100 MiB of private memory while it is loaded."""


def model_fn(model_dir):
    return bytearray(b"x") * (100 * 1024 * 1024)


def transform_fn(model, body, content_type, accept):
    return str(len(model))
