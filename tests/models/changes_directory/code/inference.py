import os


def model_fn(model_dir):
    os.chdir("/")
    return "model"


def transform_fn(model, body, content_type, accept):
    return os.getcwd()
