"""The console scripts: ready for SIGTERM before anything that takes time is imported.

A container's first process ignores a signal that it has no handler for, so one that came while the
server is imported would be lost, and the container be killed after its time to stop.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """``modelyard``."""
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGTERM, _leave)
    from modelyard.cli import main

    main()


def serve() -> None:
    """``serve``, SageMaker's word for it."""
    signal.signal(signal.SIGTERM, _leave)
    from container.entrypoint import serve

    serve()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(0)  # nothing was begun; an exception could be swallowed by what is being imported
