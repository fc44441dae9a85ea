"""The console scripts: ready for SIGTERM before anything that takes time is imported.

A container's first process ignores a signal that it has no handler for, so one that came while the
server is imported would be lost, and the container be killed after its time to stop. For the time
until these lines are reached the image's entry point has SIGTERM blocked, so that it waits for us.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """``modelyard``."""
    _listen(code=0 if sys.argv[1:2] == ["serve"] else 128 + signal.SIGTERM)
    from modelyard.cli import main

    main()


def serve() -> None:
    """``serve``, SageMaker's word for it."""
    _listen(code=0)
    from container.entrypoint import serve

    serve()


def _listen(code: int) -> None:
    """Leave on SIGTERM with that exit code, until a command listens for itself."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        os._exit(code)  # nothing was begun; an exception could be swallowed by what is imported

    signal.signal(signal.SIGTERM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
