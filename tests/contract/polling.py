"""Waiting for something to become true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(check: Callable[[], bool], *, within_seconds: float = 10.0) -> bool:
    """Whether ``check`` came true before the deadline; it is asked every 20 ms."""
    deadline = time.monotonic() + within_seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
