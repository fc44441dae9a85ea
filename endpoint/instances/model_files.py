"""From an object in the store to a model's directory on an instance's disk."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

from archives.extraction import ArchiveLimits
from endpoint.cache.adding import Fill
from endpoint.cache.disk_cache import DiskCache, Stored
from endpoint.events import Record
from endpoint.objects.store import ObjectInfo, ObjectStore, StoreUnavailable

# Downloads of one instance at a time: each has several connections and a thread that extracts.
_AT_ONCE = 8


def model_id(url: str, etag: str) -> str:
    """The name under which containers know a version of a model: 32 hexadecimal digits."""
    return hashlib.md5(f"{url}\n{etag}".encode(), usedforsecurity=False).hexdigest()


class ModelFiles:
    """Models' directories on one instance's disk, as the store has them."""

    def __init__(
        self,
        cache: DiskCache,
        store: ObjectStore,
        limits: ArchiveLimits,
        record: Record,
        *,
        check_seconds: float | None,
    ) -> None:
        """``check_seconds``: look at an object again after that; None: never while it is here."""
        self._cache = cache
        self._store = store
        self._limits = limits
        self._record = record
        self._check_seconds = check_seconds
        self._by_target: dict[str, Stored] = {}
        self._looked: dict[str, tuple[float, str]] = {}  # when, and the etag
        self._downloads = asyncio.Semaphore(_AT_ONCE)
        self._arriving: dict[str, asyncio.Event] = {}  # by id; set when it is there, or is not

    async def open(self) -> None:
        """Find what an earlier life left on the disk."""
        await self._cache.open()
        for stored in sorted(self._cache.all(), key=lambda stored: stored.last_used):
            self._by_target[stored.target] = stored

    def known(self, target: str) -> Stored | None:
        """The version that is on the disk."""
        return self._by_target.get(target)

    def all(self) -> list[Stored]:
        """All that is on the disk, versions that were replaced too."""
        return self._cache.all()

    def touch(self, stored: Stored) -> None:
        """It has been used now."""
        self._cache.touch(stored.id)

    def path(self, stored: Stored) -> Path:
        """The model's directory."""
        return self._cache.path(stored.id)

    async def find(self, target: str, url: str) -> Stored:
        """The model on the disk, as it is in the store now; downloaded if it is not there.

        Raises StoreError, ArchiveError or DiskFull.
        """
        known = self.known(target)
        if known is not None and not self.is_due(target):
            return known
        try:
            info = await self.look(target, url)
        except StoreUnavailable:
            if known is None or self._cache.get(known.id) is None:
                raise
            return known  # better than nothing
        return await self.fetch(target, info)

    async def fetch(self, target: str, info: ObjectInfo) -> Stored:
        """One version of a model on the disk. Raises StoreError, ArchiveError or DiskFull."""
        wanted = model_id(info.url, info.etag)
        while (found := self._cache.get(wanted)) is None:
            if wanted in self._arriving:
                await self._arriving[wanted].wait()
            else:
                found = await self._download(wanted, target, info)
                break
        self._by_target[target] = found
        return found

    async def look(self, target: str, url: str) -> ObjectInfo:
        """The object as it is now. Raises StoreError."""
        self._looked.pop(target, None)
        info = await self._store.head(url)
        self._looked[target] = time.monotonic(), info.etag
        return info

    def seen_etag(self, target: str) -> str:
        """Of the object when it was last looked at; "" if that is not known."""
        return self._looked.get(target, (0.0, ""))[1]

    def is_due(self, target: str) -> bool:
        """Whether its object should be looked at again."""
        if self._check_seconds is None:
            return False
        looked = self._looked.get(target)
        return looked is None or time.monotonic() - looked[0] >= self._check_seconds

    async def remove(self, stored: Stored) -> None:
        """Delete it from the disk."""
        self.forget(stored)
        await self._cache.remove(stored.id)
        self._record("delete", stored.target)

    def deleted(self, stored: Stored) -> None:
        """The cache has deleted it for others."""
        self.forget(stored)
        self._record("delete", stored.target, text="to make room on the disk")

    def forget(self, stored: Stored) -> None:
        """It is not on the disk any more, or soon."""
        known = self._by_target.get(stored.target)
        if known is not None and known.id == stored.id:
            del self._by_target[stored.target]
            self._looked.pop(stored.target, None)

    async def close(self) -> None:
        """Note when models were last used. Nothing may be on its way."""
        await self._cache.close()

    @property
    def used_bytes(self) -> int:
        """What all take on the disk."""
        return self._cache.used_bytes

    @property
    def budget_bytes(self) -> int:
        """What they may take."""
        return self._cache.budget_bytes

    async def _download(self, wanted: str, target: str, info: ObjectInfo) -> Stored:
        done = self._arriving[wanted] = asyncio.Event()
        try:
            async with self._downloads:
                begun = time.monotonic()
                stored = await self._cache.add(wanted, target, info, self._filler(info))
                seconds = time.monotonic() - begun
                self._record("download", target, seconds=seconds, text=f"{info.size} bytes")
                return stored
        finally:
            del self._arriving[wanted]
            done.set()

    def _filler(self, info: ObjectInfo) -> Fill:
        return lambda target, room: self._store.extract(info, target, self._limits, room)
