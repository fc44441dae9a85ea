import threading


def model_fn(model_dir):
    threading.Event().wait()


def transform_fn(model, body, content_type, accept):
    return body
