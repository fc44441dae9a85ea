"""Keeps an event loop of its own, made while loading."""

import asyncio
import json
import os


def model_fn(model_dir):
    return os.getpid(), asyncio.new_event_loop()


def transform_fn(model, body, content_type, accept):
    loaded_by, loop = model
    loop.run_until_complete(asyncio.sleep(0))
    return json.dumps({"loaded_by": loaded_by, "pid": os.getpid()})
