"""What a load will take, before it is known. Pure: what was learned is handed in."""

from __future__ import annotations

from collections.abc import Sequence

from model_server.memory.ledger import MIB

# What a model takes besides its weights: interpreter state that is written to, buffers, modules.
FLOOR_BYTES = 8 * MIB


def predict_bytes(
    *, weight_bytes: int, learned_bytes: int | None, workers: int, shared: bool
) -> int:
    """What a load will take: what it took last time, else its weights and a floor for each process.

    ``shared`` says that workers beyond the first are forked from a process that holds the weights.
    """
    if learned_bytes is not None:
        return learned_bytes
    if shared and workers > 1:
        return weight_bytes + FLOOR_BYTES * (workers + 1)
    return (weight_bytes + FLOOR_BYTES) * workers


def predict_worker_bytes(present_bytes: Sequence[int]) -> int:
    """What one more worker will take: as much as the largest of those that the model has."""
    return max([*present_bytes, FLOOR_BYTES])
