def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    return b"x" * (100 * 1024 * 1024), "application/octet-stream"
