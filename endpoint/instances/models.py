"""The models of one instance: which are wanted, brought in, used, replaced, sent away.

Requests take a model with ``using`` and wait with ``ready``: it is downloaded and loaded if need
be, once for all who wait, and stays in memory while it runs. Bringing it in goes on when a request
has waited for too long and leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from endpoint.cache.disk_cache import Stored
from endpoint.errors import ApiError, ModelNotReady
from endpoint.events import Record
from endpoint.instances.arrivals import Arrivals
from endpoint.instances.container_client import ContainerError, ContainerUnreachable
from endpoint.instances.following import Following
from endpoint.instances.memory import Memory
from endpoint.instances.model_files import ModelFiles, is_model_id
from endpoint.instances.resident import Resident, Stage
from endpoint.instances.residents import Residents
from endpoint.instances.words import Words
from endpoint.objects.store import ObjectInfo
from endpoint.routing.places import Where
from endpoint.settings import EndpointSettings

log = logging.getLogger("modelyard.endpoint")

# A model that this many lists of the container in a row do not name is taken for unloaded.
_LISTS_MISSED = 2

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Models:
    """The models of one instance."""

    def __init__(
        self,
        residents: Residents,
        memory: Memory,
        files: ModelFiles,
        settings: EndpointSettings,
        words: Words,
        record: Record,
        *,
        keep: bool,
    ) -> None:
        """Without ``keep`` models leave after each use."""
        self._residents = residents
        self._memory = memory
        self._files = files
        self._arrivals = Arrivals(files, memory, settings, words, record)
        self._settings = settings
        self._record = record
        self._keep = keep
        self._following = Following(
            self._residents,
            files,
            record,
            spawn=self._spawn,
            bring=self._bring,
            send_away=self._send_away,
        )
        self._strangers: set[str] = set()  # ids on the container's last list that nobody here knows
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()

    # --- requests -------------------------------------------------------------------------------

    @contextmanager
    def using(self, target: str) -> Iterator[Resident]:
        """A model while a request needs it; see ``ready``."""
        resident = self._residents.begin(target)
        resident.begin_use(self._loop.time())
        try:
            yield resident
        finally:
            resident.end_use(self._loop.time())
            if resident.users == 0:
                self._unused(resident)

    async def refresh(self, target: str) -> None:
        """Before ``using`` a model that nobody uses: is its object still the same?"""
        resident = self._residents.get(target)
        if resident is not None and resident.is_ready and resident.users == 0:
            await self._following.refresh(resident)

    async def ready(self, resident: Resident, deadline: float) -> None:
        """Return when the model is in memory; ``deadline`` is by the loop's clock.

        Raises ModelNotReady when that takes longer, ApiError when it cannot be had, and
        ContainerError when the container is gone.
        """
        while not resident.is_ready:
            task = resident.leaving or resident.arriving or self._bring(resident)
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.shield(task)
            except TimeoutError:
                raise ModelNotReady(
                    f"{resident.target} is being made ready on the endpoint, which takes longer "
                    f"than {self._settings.invoke_timeout_seconds:g} seconds and goes on; invoke "
                    "it again."
                ) from None
            except asyncio.CancelledError:
                if not task.cancelled() or self._is_cancelled():
                    raise
                raise ContainerUnreachable(f"{resident.target}: the instance is gone") from None
        self._following.used(resident)

    async def reload(self, resident: Resident, loads: int, deadline: float) -> bool:
        """The container says that it does not know the model: have it in memory again.

        ``loads`` is the resident's count when the request was sent. False when the container says
        that it has the model, so that the 404 is the model's own answer: asked for it, or, if that
        does not help, told to load it, for which other requests have to wait.
        """
        if resident.is_ready and resident.loads == loads:
            knows = await self._memory.has(resident)
            # Another that was told the same may be having it loaded, which is what the container
            # knows of then.
            if resident.is_ready and resident.loads == loads:
                if knows:
                    return False
                resident.enter(Stage.OUT)
        await self.ready(resident, deadline)
        return resident.loads > loads

    async def make_room(self, resident: Resident) -> bool:
        """The container has no memory for a request of that model: unload another one."""
        return await self._memory.unload_quiet(resident, "to make room for a request")

    # --- routing --------------------------------------------------------------------------------

    def where(self, target: str) -> Where:
        """How near a model is to answering here."""
        resident = self._residents.get(target)
        if resident is not None and not resident.retiring:
            if resident.is_ready:
                return Where.LOADED
            if resident.arriving is not None:
                return Where.LOADING
        return Where.ABSENT if self._files.known(target) is None else Where.ON_DISK

    def requests(self, target: str) -> int:
        """Requests that run or wait for a model."""
        resident = self._residents.get(target)
        return 0 if resident is None else resident.users

    @property
    def loaded_bytes(self) -> int:
        """What the models in memory, or on their way, take on the disk."""
        return sum(resident.bytes for resident in self._residents)

    @property
    def free_disk_bytes(self) -> int:
        """Of the budget."""
        return self._files.budget_bytes - self._files.used_bytes

    def warm(self, target: str) -> None:
        """Bring a model in for requests to come."""
        resident = self._residents.begin(target)
        resident.retiring = False
        if not resident.is_ready and resident.arriving is None and resident.leaving is None:
            self._bring(resident)

    def withdraw(self, target: str, why: str) -> None:
        """Take a copy out of memory as soon as nobody uses it; it stays on the disk."""
        resident = self._residents.get(target)
        if resident is not None and not resident.retiring:
            resident.retiring = True
            self._spawn(self._retire(resident, why))

    # --- what the container says ----------------------------------------------------------------

    async def open(self, listed: Collection[str]) -> None:
        """Find what is on the disk, and what a container of an earlier life has loaded of it."""
        # Their files are in use, too.
        strange = self._residents.listed = {id for id in listed if is_model_id(id)}
        await self._files.open()
        for stored in self._files.all():
            known = self._files.known(stored.target)
            if stored.id in strange and known is not None and known.id == stored.id:
                strange.discard(stored.id)
                resident = self._residents.begin(stored.target)
                resident.stored = stored
                resident.enter(Stage.LOADED)
                resident.last_used = self._loop.time()
        for unknown in strange:
            self._memory.drop(unknown)
        strange.clear()

    def listed(self, ids: Collection[str], asked_at: float) -> None:
        """The container's list. What is not in it for a while is loaded again when it is wanted."""
        for resident in self._residents.current():
            if not resident.is_ready or resident.last_used >= asked_at or resident.id in ids:
                resident.misses = 0
                continue
            resident.misses += 1
            if resident.misses >= _LISTS_MISSED and resident.users == 0:
                # The list may be wrong: then its memory would be lost to all others.
                self._memory.unload(resident, "the container does not list it")
        self._drop_strangers(set(ids))

    def names(self) -> dict[str, str]:
        """Targets by the container's ids, of all that is on the disk."""
        return {stored.id: stored.target for stored in self._files.all()}

    # --- for people -----------------------------------------------------------------------------

    @property
    def loaded(self) -> int:
        """How many are in the container's memory."""
        held = (Stage.LOADED, Stage.UNLOADING)
        return sum(resident.stage in held for resident in self._residents)

    @property
    def disk_use(self) -> tuple[int, int]:
        """Bytes that are taken, and the budget."""
        return self._files.used_bytes, self._files.budget_bytes

    def residents(self) -> list[Resident]:
        """Models in memory, on their way in or out."""
        return list(self._residents)

    def summary(self, *, disk: bool, held: Mapping[str, int] = _NOTHING) -> dict[str, Any]:
        """The disk and the models, for ``GET /status``; with ``disk``, those only there too.

        ``held`` are the bytes of memory that the container tells of, by its ids.
        """
        here = {one.id: one for one in self._residents if one.stored is not None}
        coming = [one for one in self._residents if one.stored is None]
        stored = self._files.all()
        shown = [
            _described(one, here.get(one.id), held.get(one.id))
            for one in stored
            if disk or one.id in here
        ]
        return {
            "disk": {
                "used": self._files.used_bytes,
                "budget": self._files.budget_bytes,
                "models": len(stored),
            },
            "models": shown + [_described(None, one, None) for one in coming],
        }

    async def close(self) -> None:
        """Give up what is under way."""
        self._closed = True
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._memory.close()
        await self._files.close()

    @staticmethod
    def _is_cancelled() -> bool:
        """Whether it is this request that is given up."""
        request = asyncio.current_task()
        return request is not None and request.cancelling() > 0

    def _drop_strangers(self, ids: set[str]) -> None:
        """Free the memory of what was loaded after all, when its load had been given up."""
        strangers = set(filter(is_model_id, ids - self._residents.ids()))
        for id in strangers & self._strangers:
            self._memory.drop(id)
        self._strangers = strangers

    # --- on the way in --------------------------------------------------------------------------

    def _bring(self, resident: Resident, version: ObjectInfo | None = None) -> asyncio.Task[None]:
        """Start to bring a model in: that version of it, or what there is."""
        if self._closed:
            raise ContainerUnreachable(f"{resident.target}: the instance is gone")
        resident.arriving = self._spawn(self._bring_in(resident, version))
        return resident.arriving

    async def _bring_in(self, resident: Resident, version: ObjectInfo | None) -> None:
        try:
            await self._arrivals.bring_in(resident, version)
        finally:
            resident.arriving = None
            if resident.users == 0:
                self._unused(resident)

    # --- on the way out -------------------------------------------------------------------------

    def _unused(self, resident: Resident) -> None:
        """Nobody uses it now."""
        if self._closed:
            return
        self._memory.changed()
        if resident.stored is not None:
            self._files.touch(resident.stored)
        if self._keep or not resident.is_ready:
            self._residents.forget_if_out(resident)
        elif resident.is_untried:
            # Whoever was told that it is not ready yet comes again.
            self._loop.call_later(self._settings.invoke_timeout_seconds, self._let_go, resident)
        else:
            self._let_go(resident)

    def _let_go(self, resident: Resident) -> None:
        """A model that is not kept leaves, if nobody uses it."""
        if not self._closed and resident.is_ready and resident.users == 0:
            self._memory.leave(resident, self._remove(resident, "models are not kept"))

    async def _remove(self, resident: Resident, why: str) -> bool:
        """The way out of memory and off the disk, for ``Memory.leave``."""
        out = await self._memory.take_out(resident, why)
        if out and resident.stored is not None and not self._residents.serves(resident.stored):
            await self._files.remove(resident.stored)
        return out

    async def _retire(self, resident: Resident, why: str) -> None:
        await resident.unused.wait()
        try:
            if resident.retiring and resident.is_ready and await self._memory.unload(resident, why):
                self._record("copy_withdrawn", resident.target, text=why)
        finally:
            resident.retiring = False

    def _send_away(self, resident: Resident) -> None:
        """Let a version go that is not served any more, when nobody uses it."""
        self._residents.retire(resident)
        self._spawn(self._part(resident))

    async def _part(self, resident: Resident) -> None:
        await resident.unused.wait()
        try:
            stored = resident.stored
            # The container knows both by one id if the same object came back.
            if stored is None or not self._residents.serves(stored):
                why = "it is not served any more"
                await self._memory.leave(resident, self._remove(resident, why))
        finally:
            self._residents.end(resident)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # those who waited for it have been told
        if error is not None and not isinstance(error, ApiError | ContainerError):
            log.error("a model's way in or out broke off", exc_info=error)


def _described(
    stored: Stored | None, resident: Resident | None, memory: int | None
) -> dict[str, Any]:
    """A model for people: on the disk, in memory, or both."""
    target = stored.target if stored is not None else resident.target if resident else ""
    return {
        "target": target,
        "id": "" if stored is None else stored.id,
        "state": (Stage.OUT if resident is None else resident.stage).value,
        "bytes": 0 if stored is None else stored.bytes,
        "last_used": None if stored is None else stored.last_used,
        "requests": 0 if resident is None else resident.users,
        "invokes": 0 if resident is None else resident.invokes,
        "memory": memory,
    }
