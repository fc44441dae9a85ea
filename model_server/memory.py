"""Whether a model fits into memory: a pure decision over plain numbers, no clock, no I/O.

The ledger holds, for each model, what it was measured to take or, while it loads, what it is
predicted to take; so loads that run at once cannot promise the same bytes twice. Nothing is
evicted here: a model that does not fit is refused, and whoever runs the platform chooses what to
unload (the contract's 507).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_server.settings import MIB

# What a model takes besides its weights: interpreter state that is written to, buffers, modules.
FLOOR_BYTES = 8 * MIB

# Share of the ceiling that models and server may fill; the rest is for page cache and bursts.
USABLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Ledger:
    """Memory, in bytes: what there is, what the server itself takes, what models hold."""

    limit_bytes: int
    overhead_bytes: int
    held_bytes: int

    @property
    def free_bytes(self) -> int:
        """What a further model may take."""
        return self.limit_bytes - self.overhead_bytes - self.held_bytes


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


def refusal(need_bytes: int, ledger: Ledger) -> str | None:
    """None when a model of this size fits, else the reason in words."""
    if need_bytes <= ledger.free_bytes:
        return None
    return (
        f"the model needs about {_mib(need_bytes)}, {_mib(max(ledger.free_bytes, 0))} is free: "
        f"of the limit of {_mib(ledger.limit_bytes)}, loaded models hold "
        f"{_mib(ledger.held_bytes)} and the server {_mib(ledger.overhead_bytes)}. "
        "Unload a model or raise the memory limit (MODELYARD_MEMORY_LIMIT_BYTES)"
    )


def overrun(taken_bytes: int, ledger: Ledger) -> str | None:
    """None when a model that has loaded is within the limit with all others, else the reason."""
    if ledger.free_bytes >= 0:
        return None
    return (
        f"the model took {_mib(taken_bytes)} when it was loaded, {_mib(-ledger.free_bytes)} more "
        f"than there was of the limit of {_mib(ledger.limit_bytes)}. "
        "Unload a model or raise the memory limit (MODELYARD_MEMORY_LIMIT_BYTES)"
    )


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB"
