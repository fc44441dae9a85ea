"""From an object in the store to a model's directory on an instance's disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Collection
from pathlib import Path

from archives.extraction import ArchiveLimits
from endpoint.cache.adding import Fill
from endpoint.cache.disk_cache import DiskCache, Stored
from endpoint.events import Record
from endpoint.instances.memory import Memory
from endpoint.instances.residents import Residents
from endpoint.objects.store import ObjectChanged, ObjectInfo, ObjectStore, StoreUnavailable

# An object of which a version is on the disk is asked for so long, and not again for a while if
# there is no answer: a store that is away must not keep models from their requests.
_PATIENCE_SECONDS = 2.0
_AWAY_SECONDS = 10.0

# Versions of an object that is overwritten again and again while it is downloaded.
_MOST_VERSIONS = 3

# Downloads of one instance at a time: each has several connections and a thread that extracts.
_AT_ONCE = 8


def model_id(url: str, etag: str) -> str:
    """The name under which containers know a version of a model: 32 hexadecimal digits."""
    return hashlib.blake2b(f"{url}\n{etag}".encode(), digest_size=16).hexdigest()


def is_model_id(name: str) -> bool:
    """Whether it can be of ``model_id``; what has another name was loaded by somebody else."""
    return re.fullmatch("[0-9a-f]{32}", name) is not None


class ModelFiles:
    """Models' directories on one instance's disk, as the store has them."""

    def __init__(
        self,
        directory: Path,
        budget_bytes: int,
        residents: Residents,
        memory: Memory,
        store: ObjectStore,
        limits: ArchiveLimits,
        record: Record,
        *,
        check_seconds: float | None,
    ) -> None:
        """``check_seconds``: look at an object again after that; None: never while it is here."""
        self._cache = DiskCache(directory, budget_bytes, self)
        self._residents = residents
        self._memory = memory
        self._store = store
        self._limits = limits
        self._record = record
        self._check_seconds = check_seconds
        self._by_target: dict[str, Stored] = {}
        self._looked: dict[str, tuple[float, str]] = {}  # when, and the etag
        self._away_until = 0.0  # the store, when it was asked last
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

        What is on the disk is good enough while the store does not answer. Raises StoreError,
        ArchiveError or DiskFull.
        """
        known = self.known(target)
        if known is not None and not self.is_due(target):
            return known
        try:
            return await self.fetch(target, await self.look(target, url))
        except StoreUnavailable:
            if known is None or self._cache.get(known.id) is None:
                raise
            return known

    async def fetch(self, target: str, info: ObjectInfo) -> Stored:
        """A version of a model on the disk, or a newer one if it is overwritten meanwhile.

        Raises StoreError, ArchiveError or DiskFull.
        """
        for _ in range(_MOST_VERSIONS - 1):
            try:
                return await self._fetch(target, info)
            except ObjectChanged:
                info = await self.look(target, info.url)
        return await self._fetch(target, info)

    async def _fetch(self, target: str, info: ObjectInfo) -> Stored:
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
        """The object as it is now. Raises StoreError, soon if a version of it is on the disk."""
        self._looked.pop(target, None)
        if self.known(target) is None:
            info = await self._store.head(url)
        else:
            info = await self._glance(url)
        self._looked[target] = time.monotonic(), info.etag
        return info

    async def _glance(self, url: str) -> ObjectInfo:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._store.head(url, patient=False)
        except TimeoutError:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise StoreUnavailable(f"{url}: no answer in {_PATIENCE_SECONDS:g} s") from None
        except StoreUnavailable:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            raise

    def settled(self, target: str) -> None:
        """Its way in has ended: what was seen of an object that did not get here is forgotten."""
        if self.known(target) is None:
            self._looked.pop(target, None)

    def seen_etag(self, target: str) -> str:
        """Of the object when it was last looked at; "" if that is not known."""
        return self._looked.get(target, (0.0, ""))[1]

    def is_due(self, target: str) -> bool:
        """Whether its object should be looked at again."""
        now = time.monotonic()
        if self._check_seconds is None or now < self._away_until:
            return False
        looked = self._looked.get(target)
        return looked is None or now - looked[0] >= self._check_seconds

    async def remove(self, stored: Stored) -> None:
        """Delete it from the disk."""
        self._forget(stored)
        await self._cache.remove(stored.id)
        self._record("delete", stored.target)

    def _forget(self, stored: Stored) -> None:
        """It is not on the disk any more, or soon."""
        self._memory.deleted(stored.id)
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

    # --- the cache asks (cache.disk_cache.Tenants) ----------------------------------------------

    def pinned(self) -> Collection[str]:
        """Ids whose directories are in use."""
        return self._residents.ids_in_use()

    async def release(self) -> bool:
        """Unload a model that nobody needs, so that its directory may go."""
        return await self._memory.unload_unused("to make room on the disk")

    def deleted(self, stored: Stored) -> None:
        """The cache has deleted it for others."""
        self._forget(stored)
        self._record("delete", stored.target, text="to make room on the disk")

    # --- downloads ------------------------------------------------------------------------------

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
