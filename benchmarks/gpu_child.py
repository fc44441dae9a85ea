"""The steps of the GPU check that need a process of their own, each with one line of JSON as its
answer: ``python -m benchmarks.gpu_child STEP ARGUMENT``.

The check itself imports no framework and has no CUDA context.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cuda_driver import CudaDriver, DriverError
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Headers, Request, Resources
from model_server.gpus import GpuProbe, gpu_probe

GPU = 0  # CUDA_VISIBLE_DEVICES says which one that is
ROW = b"[[0.01]]"
MOVES = 6
HELD_BYTES = 1 << 30
LOCK_LIMIT_MS = 10_000


def sees(_: str) -> dict[str, Any]:
    """What PyTorch sees."""
    import torch

    count = torch.cuda.device_count()
    name = torch.cuda.get_device_name(GPU) if count else ""
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": count, "name": name}


def weights(file: str) -> dict[str, Any]:
    """Write the weights of the network of 1 GiB."""
    import torch
    from safetensors.torch import save_file

    from benchmarks.inference.gpu_model import Network

    torch.manual_seed(0)
    save_file(Network().state_dict(), file)
    return {"bytes": Path(file).stat().st_size}


def moves(model_dir: str) -> dict[str, Any]:
    """Load a model, let it leave its GPU and come back, several times."""
    gpus = gpu_probe("auto", cuda_visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    empty = _used(gpus)
    options = HandlerOptions()
    plan = inspect_model(Path(model_dir), options)
    model = load_service(plan, model_name="m", options=options, resources=Resources(1, GPU))
    request = Request(ROW, Headers((("Content-Type", "application/json"),)))
    before, full = model.invoke(request).body, _used(gpus)
    park, restore, parked = [], [], []
    for _ in range(MOVES):
        park.append(_seconds(model.park))
        parked.append(_used(gpus) - empty)
        restore.append(_seconds(model.restore))
    return {
        "loaded_bytes": full - empty,
        "parked_bytes": parked,
        "park_seconds": park,
        "restore_seconds": restore,
        "same_answer": model.invoke(request).body == before,
    }


def hold(_: str) -> dict[str, Any]:
    """Hold memory of the GPU until a line comes in; is it still what it was then?"""
    import torch

    held = torch.full((HELD_BYTES,), 3, dtype=torch.uint8, device=f"cuda:{GPU}")
    torch.cuda.synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    return {"unharmed": bool((held == 3).all())}


def checkpoint(pid: str) -> dict[str, Any]:
    """Have the driver take a process off its GPU, and bring it back."""
    gpus = gpu_probe("auto", cuda_visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    driver, target = CudaDriver(), int(pid)
    found: dict[str, Any] = {"cuda": driver.version(), "offered": driver.has_checkpoints()}
    if not found["offered"]:
        return found
    before = _used(gpus)
    found["away_seconds"] = _seconds(lambda: driver.lock(target, LOCK_LIMIT_MS))
    try:
        found["away_seconds"] += _seconds(lambda: driver.checkpoint(target))
    except DriverError:
        driver.unlock(target)
        raise
    found["freed_bytes"] = before - _used(gpus)
    found["back_seconds"] = _seconds(lambda: driver.restore(target))
    found["back_seconds"] += _seconds(lambda: driver.unlock(target))
    return found


def _used(gpus: GpuProbe) -> int:
    """Bytes of the GPU that all processes use, by NVML."""
    device = gpus.devices()[GPU]
    if gpus.failed is not None:
        raise RuntimeError(f"NVML does not answer: {gpus.failed}")
    return device.used_bytes


def _seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "sees": sees,
    "weights": weights,
    "moves": moves,
    "hold": hold,
    "checkpoint": checkpoint,
}

if __name__ == "__main__":
    try:
        print(json.dumps(STEPS[sys.argv[1]](sys.argv[2])))
    except DriverError as error:
        print(json.dumps({"refused": str(error)}))
