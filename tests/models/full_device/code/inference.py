"""Raises what PyTorch raises when a GPU is full, as often as the file $FULL has lines left.

Says in $GPU_DIR that its process holds 1 MiB of GPU 0, as any does that has used it. Writes each request to $ASKED. The body is what it answers; "stream" is answered in two chunks.
"""

import os
from pathlib import Path


def model_fn(model_dir):
    if "GPU_DIR" in os.environ:
        Path(os.environ["GPU_DIR"], str(os.getpid())).write_text('{"0": 1048576}')


def check():
    file = Path(os.environ["FULL"])
    lines = file.read_text().splitlines()
    if lines:
        file.write_text("\n".join(lines[1:]))
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def transform_fn(model, body, content_type, accept):
    body = body if isinstance(body, str) else body.decode()
    with open(os.environ["ASKED"], "a") as file:
        file.write(f"{body}\n")
    if body == "stream":
        return chunks()
    if body == "host":
        raise MemoryError("of the host")
    check()
    return body


def chunks():
    yield "begun,"
    check()
    yield "ended"
