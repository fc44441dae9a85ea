"""What a load will take, before it is known. Pure: what was learned is handed in.

A plain estimate comes first: a floor for each process and its weights. It is corrected by how far
it was off for other models of the same framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import median_low

from model_server.memory.ledger import MIB

# What a model takes besides its weights: interpreter state that is written to, buffers, modules.
FLOOR_BYTES = 8 * MIB

# What a process takes of a GPU before it has loaded anything: the CUDA context and its kernels.
GPU_FLOOR_BYTES = 500 * MIB

# The quickest loads; and reading weights, where nothing better is known.
FLOOR_SECONDS = 0.020
_SECONDS_PER_BYTE = 1 / (500 * MIB)

# Models nearest in size teach most; so many are asked.
_NEAREST = 10

# So few models do not prove that others will take less than the plain estimate.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model with a single worker took (bytes or seconds), and what its weights are."""

    weight_bytes: int
    took: float


def predict_ram(*, weight_bytes: int, workers: int, shared: bool, samples: Sequence[Sample]) -> int:
    """RAM that a model never seen will take, given what others of its framework took.

    ``shared`` says that workers beyond the first are forked from a process that holds the weights.
    """
    estimate = _ram_estimate(weight_bytes=weight_bytes, workers=workers, shared=shared)
    return round(estimate * _bytes_ratio(weight_bytes, FLOOR_BYTES, samples))


def predict_gpu(*, weight_bytes: int, workers: int, samples: Sequence[Sample]) -> int:
    """Memory of a GPU that a model never seen will take: no two processes share any of it."""
    estimate = (weight_bytes + GPU_FLOOR_BYTES) * workers
    return round(estimate * _bytes_ratio(weight_bytes, GPU_FLOOR_BYTES, samples))


def predict_seconds(*, weight_bytes: int, samples: Sequence[Sample]) -> float:
    """How long a model never seen will load, given how long others of its framework did."""
    floor_bytes = FLOOR_SECONDS / _SECONDS_PER_BYTE
    estimate = FLOOR_SECONDS + weight_bytes * _SECONDS_PER_BYTE
    ratios = [
        sample.took / (FLOOR_SECONDS + sample.weight_bytes * _SECONDS_PER_BYTE)
        for sample in _alike(weight_bytes, floor_bytes, samples)
    ]
    return estimate * median_low([*ratios, 1.0])


def predict_worker_bytes(present_bytes: Sequence[int]) -> int:
    """What one more worker will take: as much as the largest of those that the model has."""
    return max([*present_bytes, FLOOR_BYTES])


def _ram_estimate(*, weight_bytes: int, workers: int, shared: bool) -> int:
    """Weights, and a floor for each process."""
    if shared and workers > 1:
        return weight_bytes + FLOOR_BYTES * (workers + 1)
    return (weight_bytes + FLOOR_BYTES) * workers


def _bytes_ratio(weight_bytes: int, floor_bytes: int, samples: Sequence[Sample]) -> float:
    """By what to multiply the plain estimate.

    It is the highest but one of those like it, the plain estimate being one of them. So a single
    glutton does not make all others wait for room, and less is expected only when all took less.
    """
    ratios = [
        sample.took / (sample.weight_bytes + floor_bytes)
        for sample in _alike(weight_bytes, floor_bytes, samples)
    ]
    if not ratios:
        return 1.0
    highest_but_one = sorted([1.0, *ratios])[-2]
    return highest_but_one if len(ratios) >= _FEW else max(highest_but_one, 1.0)


def _alike(weight_bytes: int, floor: float, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that say something of a model of this size, at most ``_NEAREST``.

    Models lighter than the floor teach nothing of heavy ones, nor the other way round: one kind is
    almost all floor and the other almost all weights.
    """
    light = weight_bytes < floor
    alike = [sample for sample in samples if (sample.weight_bytes < floor) == light]
    size = log(weight_bytes + floor)
    alike.sort(key=lambda sample: abs(log(sample.weight_bytes + floor) - size))
    return alike[:_NEAREST]
