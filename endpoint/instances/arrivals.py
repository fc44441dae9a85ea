"""The way of a model into an instance's memory: from the store to the disk, from there by a load.

What failed is remembered for a while, so that a model that cannot be loaded costs its callers a
moment and the others nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from archives.errors import ExtractionError, NoRoomNow
from endpoint.cache.disk_cache import Stored
from endpoint.errors import ApiError
from endpoint.events import Record
from endpoint.instances.memory import Memory
from endpoint.instances.model_files import ModelFiles
from endpoint.instances.resident import Resident, Stage
from endpoint.instances.words import DoesNotFit, Words
from endpoint.objects.store import ObjectInfo, StoreError
from endpoint.settings import EndpointSettings

# A model that has no room in an empty container will have none soon, and each attempt unloads all
# others. But what the machine has left over for the container may change.
_DOES_NOT_FIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """What failed, until when nobody tries again, and the version that it was."""

    error: ApiError
    until: float
    etag: str


class Arrivals:
    """Brings models in, one task for each."""

    def __init__(
        self,
        files: ModelFiles,
        memory: Memory,
        settings: EndpointSettings,
        words: Words,
        record: Record,
    ) -> None:
        self._files = files
        self._memory = memory
        self._settings = settings
        self._words = words
        self._record = record
        self._failures: dict[str, _Failure] = {}

    async def bring_in(self, resident: Resident, version: ObjectInfo | None) -> None:
        """Download, extract and load that version of a model, or the one that there is.

        Raises ApiError, or ContainerError when the container is gone.
        """
        try:
            await self._bring_in(resident, version)
        finally:
            self._files.settled(resident.target)

    async def _bring_in(self, resident: Resident, version: ObjectInfo | None) -> None:
        changed = await self._changed_since_it_failed(resident)
        limit = self._settings.load_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                stored = await self._fetch(resident, version or changed)
                await self._memory.load(resident, self._files.path(stored))
        except TimeoutError:
            if resident.stored is not None:  # the container may be at it still
                self._memory.drop(resident.id, resident.target)
            late = self._words.timed_out(f"{resident.target} was not ready after {limit:g} seconds")
            # One that did not get to the disk may have waited for others that were in its way.
            raise self._failed(resident, late, remember=resident.stored is not None) from None
        except ApiError as error:
            raise self._failed(resident, error) from None
        self._failures.pop(resident.target, None)

    async def _fetch(self, resident: Resident, version: ObjectInfo | None) -> Stored:
        resident.enter(Stage.FETCHING)
        try:
            if version is None:
                stored = await self._files.find(resident.target, resident.url)
            else:
                stored = await self._files.fetch(resident.target, version)
        except (StoreError, ExtractionError) as error:
            raise self._words.of_files(error, resident.url) from error
        finally:
            resident.enter(Stage.OUT)
        resident.stored = stored
        return stored

    async def _changed_since_it_failed(self, resident: Resident) -> ObjectInfo | None:
        """The object, if what it was before failed a moment ago; raises that if it is the same."""
        failure = self._failures.get(resident.target)
        if failure is None or asyncio.get_running_loop().time() >= failure.until:
            return None
        try:
            info = await self._files.look(resident.target, resident.url)
        except StoreError as error:
            raise self._words.of_files(error, resident.url) from error
        if info.etag == failure.etag:
            # Without a trace, which would hold on to every request that was ever told.
            raise failure.error.with_traceback(None)
        return info

    def _failed(self, resident: Resident, error: ApiError, *, remember: bool = True) -> ApiError:
        """Remember a failure, unless it is the store's: an object may be there at any moment.

        Nor one that others on the disk are to blame for.
        """
        etag = self._files.seen_etag(resident.target)
        if not etag and resident.stored is not None:
            etag = resident.stored.etag
        if remember and etag and not isinstance(error.__cause__, StoreError | NoRoomNow):
            self._remember(resident.target, error, etag)
        self._record("load_failed", resident.target, text=error.message)
        return error

    def _remember(self, target: str, error: ApiError, etag: str) -> None:
        now = asyncio.get_running_loop().time()
        for old in [name for name, failure in self._failures.items() if failure.until <= now]:
            del self._failures[old]
        seconds = self._settings.failed_load_seconds
        if seconds and isinstance(error, DoesNotFit):  # 0: nothing is remembered
            seconds = max(seconds, _DOES_NOT_FIT_SECONDS)
        self._failures[target] = _Failure(error, now + seconds, etag)
