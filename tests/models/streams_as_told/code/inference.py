"""Streams what the body tells, step by step.

The body is JSON: {"steps": [...], "async": false, "closed": file to make at the end, "status": 200}.
A step is text to yield, or one of {"bytes": n, "times": n, "count": file}, {"touch": file},
{"wait": file}, {"sleep": seconds}, {"raise": text, "status": n}, {"exit": code}, {"os_exit": code}.
"""

import json
import os
import time
from pathlib import Path


class Told(Exception):
    def __init__(self, text, status):
        super().__init__(text)
        self.status_code = status


def model_fn(model_dir):
    return "model"


def transform_fn(model, body, content_type, accept, context):
    order = json.loads(body)
    context.set_response_status(order.get("status", 200))
    if order.get("async"):
        return asynchronous(order), "text/plain"
    return told(order), "text/plain"


def told(order):
    try:
        for step in order["steps"]:
            yield from done(step)
    finally:
        if "closed" in order:
            Path(order["closed"]).touch()


async def asynchronous(order):
    try:
        for step in order["steps"]:
            for chunk in done(step):
                yield chunk
    finally:
        if "closed" in order:
            Path(order["closed"]).touch()


def done(step):
    if isinstance(step, str):
        yield step
        return
    if "bytes" in step:
        for number in range(step.get("times", 1)):
            if "count" in step:
                Path(step["count"]).write_text(str(number))
            yield bytes(step["bytes"])
    if "touch" in step:
        Path(step["touch"]).touch()
    if "wait" in step:
        while not Path(step["wait"]).exists():
            time.sleep(0.005)
    if "sleep" in step:
        time.sleep(step["sleep"])
    if "raise" in step:
        raise Told(step["raise"], step.get("status", 500))
    if "exit" in step:
        raise SystemExit(step["exit"])
    if "os_exit" in step:
        os._exit(step["os_exit"])
