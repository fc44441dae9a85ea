"""Plays a model on a GPU: says in $GPU_DIR that its process holds $GPU_BYTES of GPU 0.

Parks and comes back, and writes each of its moves with its pid to $MOVES. $FAILS names the moves
that fail ("park", "restore"), end the process ("park-exits") or close all that is open and hang
("park-closes"), and $SLOW_SECONDS delays each; each waits for the file $WAITS_FOR, if there is one
named. While parked it holds $REST_BYTES of the GPU and, from then on, $COPY_BYTES of RAM.

Answers with its pid and whether it was on the GPU; the body is how many seconds that takes.
"""

import json
import os
import time
from pathlib import Path

# A process that has used a GPU never leaves it whole.
REST_BYTES = int(os.environ.get("REST_BYTES", 1 << 20))


def hold(count):
    folder = os.environ.get("GPU_DIR")
    if folder:
        draft = Path(folder, f"{os.getpid()}.draft")
        draft.write_text(json.dumps({"0": count}))
        draft.rename(Path(folder, str(os.getpid())))


def move(model, what, on_gpu):
    with open(os.environ["MOVES"], "a") as file:
        file.write(f"{what} {os.getpid()}\n")
    time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
    while "WAITS_FOR" in os.environ and not Path(os.environ["WAITS_FOR"]).exists():
        time.sleep(0.005)
    fails = os.environ.get("FAILS", "").split()
    if f"{what}-exits" in fails:
        os._exit(9)
    if f"{what}-closes" in fails:
        os.closerange(3, 1024)
        time.sleep(60)
    if what in fails:
        raise RuntimeError(f"cannot {what}")
    model["on_gpu"] = on_gpu
    model.setdefault("copy", b"x" * int(os.environ.get("COPY_BYTES", "0")))
    hold(int(os.environ.get("GPU_BYTES", "0")) if on_gpu else REST_BYTES)


def model_fn(model_dir):
    hold(int(os.environ.get("GPU_BYTES", "0")))
    return {"on_gpu": True}


def park_fn(model):
    move(model, "park", False)


async def restore_fn(model):
    move(model, "restore", True)


def transform_fn(model, body, content_type, accept):
    time.sleep(float(body or 0))
    return json.dumps({"pid": os.getpid(), "on_gpu": model["on_gpu"]})
