import ctypes


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    return ctypes.string_at(0)
