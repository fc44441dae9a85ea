"""The body is a JSON list of header names; answers with what the model sees under each."""

import json


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(names, model, context):
    return {name: context.get_request_header(0, name) for name in names}


def output_fn(seen, accept):
    return json.dumps(seen)
