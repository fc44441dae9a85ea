"""A file that a report will be written to: its place is taken before the run, not after it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from modelyard.load_test.problem import Problem

# A report is smaller, unless there are thousands of models in it.
_RESERVED_BYTES = 1 << 20


class ReportFile:
    """Nothing is at ``path`` before ``write``, which replaces what was there. Raises Problem."""

    def __init__(self, path: Path, reserved_bytes: int = 0) -> None:
        self._path = path
        # A device or a pipe is written to as it is.
        self._replaced = path.is_file() or not path.exists()
        self._draft = path.with_name(f".{path.name}.{os.getpid()}") if self._replaced else path
        try:
            self._file = self._draft.open("wb")
            if self._replaced:
                size = _RESERVED_BYTES + reserved_bytes
                os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            self.close()
            raise Problem(f"{path} cannot be written ({error.strerror})") from error

    def write(self, text: str) -> None:
        """Put the report there. Raises OSError."""
        self._file.write(text.encode("utf-8", "backslashreplace"))
        if self._replaced:
            self._file.truncate()
        self._file.close()
        if self._replaced:
            self._draft.replace(self._path)

    def close(self) -> None:
        """Leave nothing behind but what was written."""
        if hasattr(self, "_file"):
            self._file.close()
        if self._replaced:
            with suppress(OSError):
                self._draft.unlink(missing_ok=True)
