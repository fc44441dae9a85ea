"""A multi-model-server custom service as a function: called with no data when it is loaded."""

import json

loads = []


def answer(data, context):
    if data is None:
        loads.append(context.system_properties["model_dir"])
        return None
    context.set_response_content_type(0, "application/json")
    return [
        json.dumps({"got": bytes(row["body"]).decode(), "loads": len(loads), "name": context.model_name})
        for row in data
    ]
