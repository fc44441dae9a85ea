"""The module has no function but ``transform_fn`` and ``model_fn``."""


def model_fn(model_dir):
    return {"prefix": "transformed: "}


def transform_fn(model, body, content_type, accept):
    text = body.decode() if isinstance(body, (bytes, bytearray)) else body
    return model["prefix"] + text
