"""Loads with an async function, so an event loop is there that a fork must not share."""

import asyncio
import json
import os


async def model_fn(model_dir):
    await asyncio.sleep(0)
    return os.getpid()


async def transform_fn(model, body, content_type, accept):
    await asyncio.sleep(0)
    return json.dumps({"loaded_by": model, "pid": os.getpid()})
