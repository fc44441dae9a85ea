"""How often a store is asked again that does not answer, and how long between."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from archives.errors import Stopped
from endpoint.objects.store import StoreUnavailable

T = TypeVar("T")

_DELAYS_SECONDS = (0.1, 0.2, 0.5, 1.0)


def patiently(call: Callable[[], T], stop: threading.Event) -> T:
    """What ``call`` returns; it is called again, after a while, when it raises StoreUnavailable.

    Raises that of the last call, everything else at once, and Stopped once ``stop`` is set.
    """
    for delay in _DELAYS_SECONDS:
        _check(stop)
        try:
            return call()
        except StoreUnavailable:
            # Parts that broke off together do not come back together.
            stop.wait(delay * random.uniform(0.5, 1.0))
    _check(stop)
    return call()


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("The endpoint is stopping.")
