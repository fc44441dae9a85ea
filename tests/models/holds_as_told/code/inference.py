"""Holds $HOLDS_MB of memory, after $SECONDS of loading and when the file $WAITS_FOR is there, and
says in $GPU_DIR that its process holds $GPU_MB of the GPU that it was given. Each load adds its pid
to the file $LOADS.

Answers with its pid and that GPU. The body may be JSON: {"touch": file, "wait": file}.
"""

import json
import os
import time
from pathlib import Path


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.005)


def hold_on_device(gpu):
    draft = Path(os.environ["GPU_DIR"], f"{os.getpid()}.draft")
    draft.write_text(json.dumps({str(gpu): int(os.environ["GPU_MB"]) << 20}))
    draft.rename(draft.with_suffix(""))


def model_fn(model_dir, context):
    with open(os.environ["LOADS"], "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(float(os.environ.get("SECONDS", "0")))
    if "WAITS_FOR" in os.environ:
        wait_for(os.environ["WAITS_FOR"])
    gpu = context.system_properties["gpu_id"]
    if "GPU_DIR" in os.environ and gpu is not None:
        hold_on_device(gpu)
    return gpu, b"x" * (int(os.environ["HOLDS_MB"]) << 20)


def transform_fn(model, body, content_type, accept, context):
    text = body if isinstance(body, str) else bytes(body).decode()
    order = json.loads(text) if text.startswith("{") else {}
    if "touch" in order:
        Path(order["touch"]).touch()
    if "wait" in order:
        wait_for(order["wait"])
    return json.dumps({"pid": os.getpid(), "gpu": model[0]})
