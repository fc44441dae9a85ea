import os


def model_fn(model_dir):
    os._exit(3)


def transform_fn(model, body, content_type, accept):
    return body
