"""Removal of the files of instances that are gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

log = logging.getLogger("modelyard.endpoint")


async def remove_directory(directory: Path) -> None:
    """Remove all that can be; the log tells what stays. In a thread."""
    left = await asyncio.to_thread(_remove, directory)
    if left:
        log.error("%s cannot be removed (%d errors): %s", directory, len(left), left[0])


def _remove(directory: Path) -> list[OSError]:
    left = []

    def on_error(_function: object, _path: str, caught: Any) -> None:
        if not isinstance(caught[1], FileNotFoundError):
            left.append(caught[1])

    shutil.rmtree(directory, onerror=on_error)
    return left
