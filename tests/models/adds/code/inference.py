"""The body is a JSON list of numbers; answers with their sum."""

import json


def model_fn(model_dir):
    return sum


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(numbers, model):
    return model(numbers)


def output_fn(total, accept):
    return json.dumps(total)
