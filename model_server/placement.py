"""On which device a worker runs: a pure decision."""

from __future__ import annotations


def gpu_for(device: str, gpus: int, worker_id: int) -> int | None:
    """The GPU for a worker of a model with this ``device`` setting; None is the CPU.

    ``auto`` takes a GPU where there is one. Without a number the workers take turns. A number
    beyond those there are is taken at its word: the framework says what is wrong.
    """
    kind, _, number = device.partition(":")
    if kind == "cpu" or (kind == "auto" and gpus == 0):
        return None
    if number:
        return int(number)
    return worker_id % max(gpus, 1)
