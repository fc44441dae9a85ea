"""What can go wrong between an archive and a directory. Whoever answers a client maps it there.

ExtractionError: the directory cannot be written to
 ├── ArchiveError: the archive is wrong, whatever the disk
 ├── DiskFull: it does not fit
 │    └── NoRoomNow: others are in its way, and may go
 └── Stopped: the caller's own wish
"""

from __future__ import annotations


class ExtractionError(Exception):
    """Raised when an archive cannot be extracted here; ``message`` is for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ArchiveError(ExtractionError):
    """Raised for an archive that cannot or must not be extracted."""


class DiskFull(ExtractionError):
    """Raised when an archive does not fit on the disk. ``missing_bytes`` is 0 if not known."""

    def __init__(self, message: str, *, missing_bytes: int = 0) -> None:
        super().__init__(message)
        self.missing_bytes = missing_bytes


class NoRoomNow(DiskFull):
    """Raised when it would fit if others were not there; so it may fit in a moment."""


class Stopped(ExtractionError):
    """Raised when the caller has told an extraction to end."""
