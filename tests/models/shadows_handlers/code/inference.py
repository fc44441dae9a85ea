"""Brings modules named like the server's own packages; must get its own."""

import container
import handlers
import model_server


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept):
    return f"{handlers.OWNER} {model_server.OWNER} {container.OWNER}"
