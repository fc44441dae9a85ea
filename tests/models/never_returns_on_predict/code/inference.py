import threading


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    threading.Event().wait()
