"""How many threads a model's process may compute with, for libraries that do not ask themselves."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from handlers.optional_packages import usable

# Libraries that bring pools of threads with them when they are imported.
_BRING_POOLS = ("numpy", "scipy", "sklearn", "xgboost", "lightgbm", "torch")


class _Allowed:
    threads = 1


def limit(threads: int) -> None:
    """Give the BLAS and OpenMP libraries that are loaded this many threads, and remember it."""
    _Allowed.threads = threads
    if usable("threadpoolctl"):
        _controller(tuple(name for name in _BRING_POOLS if name in sys.modules)).limit(
            limits=threads
        )


def allowed() -> int:
    """What the last ``limit`` in this process was: 1 if there was none."""
    return _Allowed.threads


@cache
def _controller(loaded: tuple[str, ...]) -> Any:
    """The pools in use. Looking for them takes 3 ms: once, in preload."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
