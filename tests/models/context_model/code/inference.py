"""Every function takes the trailing context; answers with what each of them saw."""

import json


def model_fn(model_dir, context):
    return {"loaded_from": str(context.system_properties["model_dir"])}


def input_fn(body, content_type, context):
    return {"input_saw": context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")}


def predict_fn(data, model, context):
    return {**model, **data, "gpu_id": context.system_properties["gpu_id"]}


def output_fn(prediction, accept, context):
    return json.dumps({**prediction, "model_name": context.model_name})
