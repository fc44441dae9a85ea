"""The decorator that times a handler's steps, where model-config.yaml asks for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


def timed(func: Callable[..., Any]) -> Callable[..., Any]:
    """Record a method's duration as a metric if ``handler: {profile: true}`` is configured."""

    @functools.wraps(func)
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = getattr(getattr(self, "context", None), "model_yaml_config", None) or {}
        if not (config.get("handler") or {}).get("profile"):
            return func(self, *args, **kwargs)
        started = time.monotonic()
        result = func(self, *args, **kwargs)
        milliseconds = (time.monotonic() - started) * 1000
        self.context.metrics.add_time(f"ts_handler_{func.__name__}", milliseconds)
        return result

    return measured
