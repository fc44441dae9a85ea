"""A model in memory, as a plan sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from model_server.memory.usage import Usage


def _never() -> bool:
    return False


@dataclass(slots=True, eq=False)
class Resident:
    """What one model holds, and what it would cost to bring it back.

    ``held`` are bytes by ledger. ``busy`` is asked only about models that are about to be chosen.
    ``parked_bytes`` is the RAM that it would take if its device memory were released and its
    weights kept on the host; None where that is not possible. ``unparked_bytes`` is the RAM that it
    held before it was first parked since its load, None where it was not. ``parked_device_bytes``
    is what its processes keep of the device while parked. Times are seconds of one clock.
    """

    name: str
    held: Mapping[str, int]
    reload_seconds: float
    usage: Usage = field(default_factory=Usage)
    ready_at: float = 0.0
    pinned: bool = False
    parked_bytes: int | None = None
    unparked_bytes: int | None = None
    parked_device_bytes: int = 0
    unpark_seconds: float = 0.0
    busy: Callable[[], bool] = _never
