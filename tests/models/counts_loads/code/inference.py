"""Writes its pid to the file $LOADS when it is loaded, and holds $HOLDS_MB of memory.

With $WAITS_FOR it goes on loading only when that file is there.

Answers with what its process is. The body may be JSON: {"touch": file, "wait": file}.
"""

import json
import os
import random
import time
from pathlib import Path


def model_fn(model_dir):
    with open(os.environ["LOADS"], "a") as file:
        file.write(f"{os.getpid()}\n")
    while "WAITS_FOR" in os.environ and not Path(os.environ["WAITS_FOR"]).exists():
        time.sleep(0.005)
    megabytes = int(os.environ.get("HOLDS_MB", "0"))
    return [os.urandom(1 << 20) for _ in range(megabytes)]


def transform_fn(model, body, content_type, accept):
    order = json.loads(body) if body else {}
    if "touch" in order:
        Path(order["touch"]).touch()
    while "wait" in order and not Path(order["wait"]).exists():
        time.sleep(0.005)
    return json.dumps(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "held": sum(len(part) for part in model),
            "drawn": random.random(),
            "kept": os.environ.get("KEPT"),
        }
    )
