def model_fn(model_dir):
    raise ValueError("raised while the model was loaded")


def transform_fn(model, body, content_type, accept):
    return body
