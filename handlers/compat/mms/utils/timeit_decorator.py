"""A decorator that tells how long a function took."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def timeit(func: Callable[..., Any]) -> Callable[..., Any]:
    """Write the duration of each call to the log."""

    @functools.wraps(func)
    def measured(*args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        result = func(*args, **kwargs)
        logger.info("%s took %.2f ms", func.__name__, (time.monotonic() - started) * 1000)
        return result

    return measured
