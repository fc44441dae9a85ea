"""What a process printed, in a file that cannot fill the disk.

The process writes to the file itself, so that it can outlive us: there is no pipe to break, and
nobody to rotate the file under it. Whoever owns the process calls ``shorten`` from time to time.
"""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20

MAX_BYTES = 64 * MIB
KEPT_BYTES = 16 * MIB
_LAST_WORDS_BYTES = 2000


class ProcessLog:
    """A file that a process appends to, and ``PATH.1`` with what was cut off it last."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def shorten(self) -> None:
        """Move the end of a file that is too long to ``PATH.1`` and empty it.

        The process must append (O_APPEND), else the file grows back at once. What it writes between
        the copy and the cut is lost. Blocks: for a thread.
        """
        try:
            with self.path.open("r+b") as file:
                size = os.fstat(file.fileno()).st_size
                if size <= self._max_bytes:
                    return
                file.seek(max(size - KEPT_BYTES, 0))
                older = self.path.with_name(f"{self.path.name}.1")
                older.write_bytes(file.read(KEPT_BYTES))
                file.truncate(0)
        except FileNotFoundError:
            return

    def last_words(self) -> str:
        """The last lines, at most some 2,000 bytes; "" if there are none."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = max(size - _LAST_WORDS_BYTES, 0)
                file.seek(start)
                text = file.read(_LAST_WORDS_BYTES)
        except OSError:
            return ""
        if start > 0 and b"\n" in text[:-1]:
            text = text[text.index(b"\n") + 1 :]  # the first line is only a part
        return text.decode("utf-8", "replace").strip()
