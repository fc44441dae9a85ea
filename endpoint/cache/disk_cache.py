"""The models on one instance's disk, within a budget of bytes.

Space is counted before it is taken: a model that arrives sets bytes aside, first what its archive
has, then what its files turn out to have. When there are too few, the least recently used models go
that nobody needs; then models in memory are asked to leave it. What goes counts until it is gone.

One that finds no room waits until there is: others become unused. Those that have begun go first,
and newcomers wait in the order in which they came. If all that have begun wait for one another, the
one that has the least gives it up, and begins again when there is room for all of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from archives.errors import DiskFull, NoRoomNow
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

# Whoever waits for room looks again after that, though nobody has told of a change.
_LOOK_SECONDS = 0.5


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
        self._planning = asyncio.Lock()  # one at a time has models unloaded
        self._newcomers = asyncio.Lock()  # their queue
        self._growing: set[Adding] = set()  # those that have begun, and wait for more room
        self._change = asyncio.Event()  # of what is taken, or who uses it; a new one each time
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
        """It was used until now. After a crash the last minute may be forgotten."""
        self._changed()
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

        Waits for room as long as others may leave some. ``fill`` makes the directory it is given,
        and asks for room before each file. It is called again when it has given way to others, and
        when the disk is full all the same and everything that nobody needs has gone.

        Raises DiskFull (NoRoomNow if others are in its way), ExtractionError if the disk cannot be
        written to, and what ``fill`` raises. Nobody may add the same id meanwhile.
        """
        if id in self._stored or id in self._adding:
            raise ValueError(f"{id} is there already")
        adding = self._adding[id] = Adding(target, self._reserve)
        new = Stored(id, target, info.url, info.etag, bytes=0, last_used=0.0)
        try:
            await self._gone(id)
            while True:
                await self._reserve(adding, max(info.size, adding.wanted))
                alone = not self._others_arrive(adding)
                try:
                    return await self._attempt(adding, new, fill)
                except DiskFull as error:
                    if adding.refused:
                        raise
                    adding.reserved = 0
                    self._changed()
                    if not adding.gave_way:
                        await self._clear(adding, error, alone=alone)
                    adding.gave_way = False
        finally:
            del self._adding[id]
            self._changed()

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
        self._changed()

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

        Raises DiskFull if they can never be, or if it is to give way to others.
        """
        if total <= adding.reserved:
            return
        adding.wanted = max(adding.wanted, total)
        if total + self._stuck_bytes > self.budget_bytes:
            adding.refused = True
            raise DiskFull(self._words(adding, total))
        if self._needed_bytes + total - adding.reserved <= self.budget_bytes:
            adding.reserved = total
        elif adding.reserved:
            await self._grow(adding, total)
        else:
            async with self._newcomers:
                await self._make_room(adding, total)
        if self.used_bytes > self.budget_bytes:
            # What was set aside for others is not ours, but what goes now was here before.
            await self._removed()

    async def _grow(self, adding: Adding, total: int) -> None:
        """Make room for more of one that has begun."""
        self._growing.add(adding)
        self._changed()  # all may wait for one another now
        try:
            await self._make_room(adding, total)
        finally:
            self._growing.discard(adding)
            self._changed()

    async def _make_room(self, adding: Adding, total: int) -> None:
        """Set it aside, and begin to delete what must go, once everything that must can."""
        told = False
        while True:
            change = self._change
            async with self._planning:
                while self._has_turn(adding):
                    need = total - adding.reserved + self._set_aside_bytes
                    ids = victims(self._stored.values(), self._pinned(), need, self.budget_bytes)
                    if ids is not None:
                        self._evict(ids)
                        adding.reserved = total  # before anybody else looks
                        return
                    if not await self._tenants.release():
                        break
            if self._must_give_way(adding):
                adding.gave_way = True
                raise NoRoomNow(self._words(adding, total))
            if not told:
                log.info("waiting for room on the disk: %s", self._words(adding, total))
                told = True
            await self._next(change)

    def _has_turn(self, adding: Adding) -> bool:
        """Newcomers must not make room while those wait for it that have begun."""
        return adding in self._growing or not self._growing

    def _must_give_way(self, adding: Adding) -> bool:
        """Whether all that have begun wait for room, and this one would lose the least."""
        begun = [one for one in reversed(self._adding.values()) if one.reserved]
        if len(begun) < 2 or not self._growing.issuperset(begun):
            return False
        return min(begun, key=lambda one: one.reserved) is adding

    async def _clear(self, adding: Adding, error: DiskFull, *, alone: bool) -> None:
        """The disk is full, whatever the budget: delete all that nobody needs, for a new attempt.

        If there is none, wait for others. Raises when the last attempt, ``alone`` or not, has had
        all the room there can be.
        """
        adding.stalled = True
        try:
            while True:
                change = self._change
                if await self._delete_unused(error.missing_bytes):
                    log.warning("%s (%s); unused models were deleted", error, adding.target)
                    return
                held = sum(stored.bytes for stored in self._stored.values())
                if not self._others_arrive(adding) and not 0 < error.missing_bytes <= held:
                    if alone:
                        raise NoRoomNow(error.message) if held else error
                    return  # what others had written was in the way
                await self._next(change)
        finally:
            adding.stalled = False

    async def _delete_unused(self, missing_bytes: int) -> bool:
        """Delete all that nobody needs, in memory or not; False if there is none.

        Models leave memory only as long as that gives less than ``missing_bytes``.
        """
        freed = self._leaving_bytes
        async with self._planning:
            while True:
                idle = unpinned(self._stored.values(), self._pinned())
                freed += sum(stored.bytes for stored in idle)
                self._evict([stored.id for stored in idle])
                if freed >= max(missing_bytes, 1) or not await self._tenants.release():
                    break
        await self._removed()
        return freed > 0

    def _others_arrive(self, adding: Adding) -> bool:
        """Whether others come that do not wait for the disk themselves."""
        return any(one is not adding and not one.stalled for one in self._adding.values())

    def _changed(self) -> None:
        """Whoever waits for room may find some now."""
        self._change.set()
        self._change = asyncio.Event()

    async def _next(self, change: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await change.wait()

    def _pinned(self) -> set[str]:
        """Those, too, that have just arrived and are not known of yet."""
        return {*self._tenants.pinned(), *self._adding}

    def _words(self, adding: Adding, total: int) -> str:
        pinned = self._pinned()
        held = sum(stored.bytes for stored in self.all() if stored.id in pinned)
        return (
            f"{adding.target} takes at least {total} bytes on the disk, where models may take "
            f"{self.budget_bytes}; {held} are taken by models in memory, "
            f"{self._set_aside_bytes - self._stuck_bytes - adding.reserved} by others that arrive, "
            f"and {self._stuck_bytes} by what cannot be deleted. "
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
            self._changed()

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
