"""How a loaded model can give the memory of its GPU to others and have it back, in its process.

Either its author says how, or it is a PyTorch model, whose weights are moved. Any other model is
loaded again.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from handlers.frameworks.parts.torch_parking import torch_parking
from handlers.interfaces.awaiting import settled
from handlers.types import Parking, Resources

log = logging.getLogger("modelyard.handlers")


@dataclass(frozen=True, slots=True)
class OwnParking:
    """By functions of the model's author, which may be ``async``."""

    park_fn: Callable[[], Any]
    restore_fn: Callable[[], Any]

    def park(self) -> None:
        """Call the author's function."""
        settled(self.park_fn())

    def restore(self) -> None:
        """Call the author's function."""
        settled(self.restore_fn())


def parking_of(loaded: Any, resources: Resources, own: OwnParking | None = None) -> Parking | None:
    """How to park what was loaded: as its author says, else PyTorch's weights in it, else None."""
    if resources.gpu_id is None:
        return None
    if own is not None:
        return own
    try:
        return torch_parking(loaded)
    except Exception:  # of the model's objects, when they are looked at
        log.warning("the model will not be parked", exc_info=True)
        return None


def free_device_cache() -> None:
    """Give back what PyTorch keeps of its GPU for later. Does nothing where it has none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    try:
        if torch.cuda.is_initialized():
            gc.collect()  # tensors in cycles, as those of a traceback may be
            torch.cuda.empty_cache()
    except Exception:  # a GPU in trouble; the request has its answer all the same
        log.warning("the memory that PyTorch keeps could not be freed", exc_info=True)
