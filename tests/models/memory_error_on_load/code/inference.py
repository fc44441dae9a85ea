def model_fn(model_dir):
    raise MemoryError("no room for the weights")


def transform_fn(model, body, content_type, accept):
    return body
