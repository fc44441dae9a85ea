"""Waiting for something to become true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable

# For what comes at once on a machine that has nothing else to do.
WAIT_SECONDS = 40.0


def eventually(check: Callable[[], bool], *, within_seconds: float = WAIT_SECONDS) -> bool:
    """Whether ``check`` came true before the deadline; it is asked every 20 ms."""
    deadline = time.monotonic() + within_seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
