"""Opens a file of its directory by a relative path, at load and for each request."""


def model_fn(model_dir):
    with open("greeting.txt") as file:
        return file.read()


def transform_fn(model, body, content_type, accept):
    with open("greeting.txt") as file:
        return model + file.read()
