"""Keeps 10 MiB more with each request; answers how many MiB it keeps."""

kept = []


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    kept.append(b"x" * (10 << 20))
    return str(10 * len(kept))
