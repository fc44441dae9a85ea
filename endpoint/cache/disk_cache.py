"""The models on one instance's disk, within a budget of bytes.

Space is counted before it is taken: a model that arrives sets bytes aside, first what its archive
has, then what its files turn out to have. When there are too few, the least recently used models go
that nobody needs; then models in memory are asked to leave it. What goes counts until it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from archives.errors import DiskFull
from endpoint.cache.adding import Adding, Fill, to_the_end
from endpoint.cache.disk_plan import Stored, unpinned, victims
from endpoint.cache.entries import MODEL, Entries, size_of
from endpoint.objects.store import ObjectInfo

__all__ = ["DiskCache", "Stored", "Tenants"]

log = logging.getLogger("modelyard.endpoint")

T = TypeVar("T")

# Deletions of large models must not hold up all others.
_THREADS = 4

# When models were last used is written this seldom.
_USES_SECONDS = 60.0


class Tenants(Protocol):
    """Who uses what is on the disk."""

    def pinned(self) -> Collection[str]:
        """Ids of models in memory, or about to be: they are never deleted to make room."""

    async def release(self) -> bool:
        """Have one idle model unloaded, so that it is not pinned; False: none can be."""

    def deleted(self, stored: Stored) -> None:
        """One goes to make room. From now on it is not there, though its space still is taken."""


class DiskCache:
    """Directories of models by id. Belongs to one loop; what blocks is done in its own threads."""

    def __init__(self, directory: Path, budget_bytes: int, tenants: Tenants) -> None:
        self.budget_bytes = budget_bytes
        self._entries = Entries(directory)
        self._tenants = tenants
        self._stored: dict[str, Stored] = {}
        self._adding: dict[str, Adding] = {}
        self._removals: dict[str, asyncio.Task[None]] = {}
        self._stored_bytes = 0
        self._leaving_bytes = 0
        self._stuck_bytes = 0  # could not be removed
        self._planning = asyncio.Lock()
        # Not the loop's own: there, those who wait for room would keep it from being made.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk-cache")
        self._unwritten: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Find what is there, remove what a crash has left and what is over the budget.

        Raises OSError if the directory cannot be made or read.
        """
        found, self._stuck_bytes = await self._run(self._entries.recover)
        self._stored = {stored.id: stored for stored in found}
        self._stored_bytes = sum(stored.bytes for stored in found)
        pinned = self._tenants.pinned()
        ids = victims(found, pinned, 0, self.budget_bytes)
        if ids is None:
            ids = [stored.id for stored in unpinned(found, pinned)]
        self._evict(ids)
        await self._removed()

    async def close(self) -> None:
        """Write when models were last used, and let removals end. Nothing may be arriving."""
        if self._timer is not None:
            self._timer.cancel()
        await self._write_uses()
        await self._removed()
        self._threads.shutdown(wait=False)

    # --- what is there --------------------------------------------------------------------------

    def get(self, id: str) -> Stored | None:
        """A model that is on the disk, whole."""
        return self._stored.get(id)

    def all(self) -> list[Stored]:
        """All that are on the disk, whole."""
        return list(self._stored.values())

    @property
    def used_bytes(self) -> int:
        """What is taken, or set aside; models that are being deleted count."""
        return self._needed_bytes + self._leaving_bytes

    def path(self, id: str) -> Path:
        """Where the model of that id is, or would be."""
        return self._entries.model(id)

    def touch(self, id: str) -> None:
        """It is used now. After a crash the last minute may be forgotten."""
        stored = self._stored.get(id)
        if stored is None:
            return
        self._stored[id] = replace(stored, last_used=time.time())
        self._unwritten.add(id)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_USES_SECONDS, self._write_uses)

    # --- coming and going -----------------------------------------------------------------------

    async def add(self, id: str, target: str, info: ObjectInfo, fill: Fill) -> Stored:
        """Have a directory filled with a model, within the budget; it is there whole or not at all.

        ``fill`` makes the directory it is given, and asks for room before each file. When the disk
        is full all the same, everything that nobody needs goes, and it is called once more.

        Raises DiskFull, ExtractionError if the disk cannot be written to, and what ``fill`` raises.
        Nobody may add the same id meanwhile.
        """
        if id in self._stored or id in self._adding:
            raise ValueError(f"{id} is there already")
        adding = self._adding[id] = Adding(target, self._reserve)
        new = Stored(id, target, info.url, info.etag, bytes=0, last_used=0.0)
        try:
            await self._gone(id)
            await self._reserve(adding, info.size)
            try:
                return await self._attempt(adding, new, fill)
            except DiskFull as error:
                if adding.refused or not await self._clear():
                    raise
                log.warning("%s (%s); unused models are deleted for it", error, target)
                return await self._attempt(adding, new, fill)
        finally:
            del self._adding[id]

    async def remove(self, id: str) -> None:
        """Delete a model, pinned or not; returns when it is gone. Nothing if it is not there."""
        stored = self._stored.get(id)
        if stored is not None:
            self._begin_removal(stored)
        await self._gone(id)

    async def _attempt(self, adding: Adding, new: Stored, fill: Fill) -> Stored:
        incoming = self._entries.incoming(new.id)
        model = incoming / MODEL
        try:
            await to_the_end(self._run(self._entries.begin, incoming))
            await adding.fill(model, fill)
            size = await self._run(size_of, model)
            await self._reserve(adding, size)
            stored = replace(new, bytes=size, last_used=time.time())
            await to_the_end(self._publish(adding, incoming, stored))
        except BaseException:
            await to_the_end(self._run(self._entries.discard, incoming))
            raise
        return stored

    async def _publish(self, adding: Adding, incoming: Path, stored: Stored) -> None:
        await self._run(self._entries.publish, incoming, stored)
        self._stored[stored.id] = stored
        self._stored_bytes += stored.bytes
        adding.reserved = 0

    # --- making room ----------------------------------------------------------------------------

    @property
    def _needed_bytes(self) -> int:
        """What is taken or set aside, without what goes."""
        return self._stored_bytes + self._set_aside_bytes

    @property
    def _set_aside_bytes(self) -> int:
        arriving = sum(adding.reserved for adding in self._adding.values())
        return arriving + self._stuck_bytes

    async def _reserve(self, adding: Adding, total: int) -> None:
        """Set ``total`` bytes aside for one that arrives, and wait until they are free.

        Raises DiskFull if they cannot be.
        """
        if total <= adding.reserved:
            return
        if self._needed_bytes + total - adding.reserved <= self.budget_bytes:
            adding.reserved = total
        else:
            async with self._planning:
                await self._make_room(adding, total)
                adding.reserved = total
        if self.used_bytes > self.budget_bytes:
            # What was set aside for others is not ours, but what goes now was here before.
            await self._removed()

    async def _make_room(self, adding: Adding, total: int) -> None:
        """Begin to delete what must go, once everything that must can."""
        while True:
            need = total - adding.reserved + self._set_aside_bytes
            ids = victims(self._stored.values(), self._pinned(), need, self.budget_bytes)
            if ids is not None:
                self._evict(ids)
                return
            if total > self.budget_bytes or not await self._tenants.release():
                adding.refused = True
                raise DiskFull(self._words(adding, total))

    async def _clear(self) -> bool:
        """Delete all that nobody needs, and be it one only; False if there is none."""
        async with self._planning:
            while not (idle := unpinned(self._stored.values(), self._pinned())):
                if self._removals:
                    break
                if not await self._tenants.release():
                    return False
            self._evict([stored.id for stored in idle])
        await self._removed()
        return True

    def _pinned(self) -> set[str]:
        """Those, too, that have just arrived and are not known of yet."""
        return {*self._tenants.pinned(), *self._adding}

    def _words(self, adding: Adding, total: int) -> str:
        pinned = self._pinned()
        held = sum(stored.bytes for stored in self.all() if stored.id in pinned)
        return (
            f"{adding.target} takes at least {total} bytes on the disk, where models may take "
            f"{self.budget_bytes}; {held} are taken by models in memory, and "
            f"{self._set_aside_bytes - adding.reserved} by others that arrive. "
            "MODELYARD_UP_DISK_BYTES or the variant's VolumeSizeInGB allows more."
        )

    # --- removal --------------------------------------------------------------------------------

    def _evict(self, ids: Collection[str]) -> None:
        for id in ids:
            stored = self._stored[id]
            self._begin_removal(stored)
            self._tenants.deleted(stored)

    def _begin_removal(self, stored: Stored) -> None:
        del self._stored[stored.id]
        self._stored_bytes -= stored.bytes
        self._unwritten.discard(stored.id)
        self._leaving_bytes += stored.bytes
        self._removals[stored.id] = asyncio.create_task(self._leave(stored))

    async def _leave(self, stored: Stored) -> None:
        try:
            self._stuck_bytes += await self._run(self._entries.remove, stored.id)
        finally:
            self._leaving_bytes -= stored.bytes
            del self._removals[stored.id]

    async def _gone(self, id: str) -> None:
        """Wait until a model that goes is gone."""
        if (removal := self._removals.get(id)) is not None:
            await asyncio.wait({removal})

    async def _removed(self) -> None:
        """Wait until all that go now are gone."""
        if self._removals:
            await asyncio.wait(set(self._removals.values()))

    # --- threads --------------------------------------------------------------------------------

    def _write_uses(self) -> asyncio.Future[None]:
        self._timer = None
        uses = {id: self._stored[id].last_used for id in self._unwritten}
        self._unwritten.clear()
        return self._run(self._entries.write_uses, uses)

    def _run(self, work: Callable[..., T], *values: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *values)
