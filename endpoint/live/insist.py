"""Doing what has to be done in the end, however often the disk or the engine refuses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("modelyard.endpoint")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0


async def insist(do: Callable[[], Awaitable[None]], what: str) -> None:
    """Do it until it works, with pauses that grow; ``what`` says for the log what cannot be done.

    The first attempt is made before anybody else runs.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await do()
        except Exception as error:
            log.error("%s: tried again in %.1f s: %s", what, pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
