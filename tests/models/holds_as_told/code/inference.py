"""Holds $RAM_MB of memory, after $SECONDS of loading, and says in $GPU_DIR that its process holds
$GPU_MB of the GPU that it was given.

Answers with its pid and that GPU. The body is how many seconds that takes.
"""

import json
import os
import time
from pathlib import Path


def model_fn(model_dir, context):
    time.sleep(float(os.environ.get("SECONDS", "0")))
    gpu = context.system_properties["gpu_id"]
    if "GPU_DIR" in os.environ and gpu is not None:
        count = int(os.environ["GPU_MB"]) << 20
        draft = Path(os.environ["GPU_DIR"], f"{os.getpid()}.draft")
        draft.write_text(json.dumps({str(gpu): count}))
        draft.rename(draft.with_suffix(""))
    return gpu, b"x" * (int(os.environ.get("RAM_MB", "0")) << 20)


def transform_fn(model, body, content_type, accept, context):
    time.sleep(float(body or 0))
    return json.dumps({"pid": os.getpid(), "gpu": model[0]})
