"""Who must be stopped when models take more than there is: never one that has not grown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model_server.memory.ledger import MIB, Ledger, shown_bytes

# By less than this, or this share of itself, a process has not grown: requests come and go.
_STEP_BYTES = 4 * MIB
_STEP_SHARE = 0.05

# So much of the room between the limit and what the kernel grants is left to others' help.
_PATIENT_SHARE = 0.5


def step_bytes(size_bytes: int) -> int:
    """By how much a process of this size must change to have grown."""
    return max(_STEP_BYTES, int(size_bytes * _STEP_SHARE))


@dataclass(frozen=True, slots=True)
class Grown:
    """A process of a model, in bytes.

    ``first_bytes`` is what it took when it had loaded, or what was reserved for it while it loads;
    ``own_limit_bytes`` the limit that the model was given, 0 for none.
    """

    first_bytes: int
    estimated_bytes: int
    own_limit_bytes: int = 0
    is_loading: bool = False

    @property
    def growth_bytes(self) -> int:
        """By how much it has grown; 0 for a little."""
        growth = self.estimated_bytes - self.first_bytes
        return growth if growth > step_bytes(self.first_bytes) else 0


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much all together are over the limit, and whether the kernel is about to act."""

    excess_bytes: int
    is_urgent: bool


def patience_bytes(limit_bytes: int, ceiling_bytes: int) -> float:
    """What may be in use before there is no time to wait for anybody's help."""
    limit = min(limit_bytes, ceiling_bytes)
    return limit + (ceiling_bytes - limit) * _PATIENT_SHARE


def excess(
    ledger: Ledger, grown_bytes: int, ceiling_bytes: int, in_use_bytes: int = 0
) -> Excess | None:
    """None while everything is within the limit.

    ``grown_bytes`` is by how much models have outgrown what the ledger says of them;
    ``ceiling_bytes`` what the kernel grants, and ``in_use_bytes`` what it says is in use of that
    (0: it does not say), which counts also what the ledger knows nothing of.
    """
    taken = ledger.overhead_bytes + ledger.held_bytes + grown_bytes
    limit = min(ledger.limit_bytes, ceiling_bytes)
    in_use = in_use_bytes - ledger.leaving_bytes
    is_urgent = max(taken, in_use) > patience_bytes(ledger.limit_bytes, ceiling_bytes)
    if not is_urgent:
        in_use = 0  # short of that, the ledger's word counts
    over = max(taken, in_use) - limit
    return Excess(over, is_urgent) if over > 0 else None


def own_overrun(process: Grown) -> str | None:
    """Why a process must be stopped for a limit of its own, or None."""
    limit = process.own_limit_bytes
    if not limit or process.estimated_bytes <= limit:
        return None
    return (
        f"{_grew(process)}, more than its limit of {shown_bytes(limit)}. "
        "Raise the model's max_memory_bytes, or have it keep less in memory"
    )


def culprit(processes: Iterable[Grown]) -> Grown | None:
    """The process to stop for the sake of all: the one that has grown most, if any has."""
    most = max(processes, key=lambda process: process.growth_bytes, default=None)
    return most if most is not None and most.growth_bytes else None


def overrun_of_all(process: Grown, ledger: Ledger, found: Excess) -> str:
    """Why the process that has grown most must be stopped."""
    return (
        f"{_grew(process)}, and all models together are {shown_bytes(found.excess_bytes)} over "
        f"the {shown_bytes(ledger.models_bytes)} that there are for them. Unload a model, raise "
        "the memory limit (MODELYARD_MEMORY_LIMIT_BYTES), or give the model a max_memory_bytes of "
        "its own"
    )


def _grew(process: Grown) -> str:
    now = shown_bytes(process.estimated_bytes)
    if process.is_loading:
        return f"the model's process took {now} while it loaded"
    return f"the model's process grew from {shown_bytes(process.first_bytes)} to {now}"
