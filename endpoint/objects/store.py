"""What the endpoint asks of a place where archives are kept, and what can go wrong there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archives.extraction import ArchiveLimits


class StoreError(Exception):
    """Raised when an object cannot be had; the text is for the user, and says what to do."""


class ObjectMissing(StoreError):
    """Raised for a bucket, folder or object that is not there."""


class AccessRefused(StoreError):
    """Raised when the store's keys do not allow it."""


class ObjectChanged(StoreError):
    """Raised when an object was replaced while it was downloaded."""


class StoreUnavailable(StoreError):
    """Raised when the store does not answer, or breaks off again and again."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as it is now. ``etag`` is different for different contents."""

    url: str
    size: int
    etag: str


# Called in the extracting thread before each file, with the bytes extracted so far including that
# file: makes room for them, or raises archives.errors.DiskFull.
Room = Callable[[int], None]


class ObjectStore(Protocol):
    """Objects by URL: ``s3://bucket/key`` or ``file:///path``."""

    async def head(self, url: str, *, patient: bool = True) -> ObjectInfo:
        """Look at an object; only once unless ``patient``. Raises StoreError."""

    async def has_prefix(self, url: str) -> None:
        """Raise StoreError unless a prefix can be listed; it may be empty."""

    async def extract(
        self, info: ObjectInfo, target: Path, limits: ArchiveLimits, room: Room
    ) -> int:
        """Download an archive and extract it on the way to ``target``, which must not exist.

        Returns the bytes of its files. When it fails or is cancelled, ``target`` is not there.
        Raises StoreError, or ExtractionError: ArchiveError, DiskFull, or what the disk refuses.
        """

    async def close(self) -> None:
        """End connections and threads."""
