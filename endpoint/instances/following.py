"""Following the store: an object that has changed replaces its model, one that has gone takes it
away, and no request is dropped for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from endpoint.errors import ApiError
from endpoint.events import Record
from endpoint.instances.container_client import ContainerError
from endpoint.instances.model_files import ModelFiles
from endpoint.instances.resident import Resident
from endpoint.instances.residents import Residents
from endpoint.objects.store import ObjectInfo, ObjectMissing, StoreError

log = logging.getLogger("modelyard.endpoint")

# A request to a model that was idle waits so long for what has become of its object.
_MOMENT_SECONDS = 2.0


class Following:
    """Looks at the objects of models in use, now and then."""

    def __init__(
        self,
        residents: Residents,
        files: ModelFiles,
        record: Record,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        bring: Callable[[Resident, ObjectInfo], asyncio.Task[None]],
        send_away: Callable[[Resident], None],
    ) -> None:
        """``bring`` starts to load a version; ``send_away`` lets one go that is not served."""
        self._residents = residents
        self._files = files
        self._record = record
        self._spawn = spawn
        self._bring = bring
        self._send_away = send_away
        self._looking: set[str] = set()

    def used(self, resident: Resident) -> None:
        """A request has it: look at its object if that is due. The request does not wait."""
        if self._is_due(resident):
            self._begin(resident)

    async def refresh(self, resident: Resident) -> None:
        """The first request after a while is about to have it: look before, for a moment."""
        if self._is_due(resident):
            await asyncio.wait({self._begin(resident)}, timeout=_MOMENT_SECONDS)

    def _is_due(self, resident: Resident) -> bool:
        return self._files.is_due(resident.target) and resident.target not in self._looking

    def _begin(self, resident: Resident) -> asyncio.Task[None]:
        self._looking.add(resident.target)
        return self._spawn(self._look(resident))

    async def _look(self, resident: Resident) -> None:
        try:
            info = await self._files.look(resident.target, resident.url)
            if resident.stored is not None and info.etag != resident.stored.etag:
                await self._replace(resident, info)
        except ObjectMissing as error:
            self._record("object_gone", resident.target, text=str(error))
            self._send_away(resident)
        except StoreError as error:
            log.warning("%s: cannot be looked at: %s", resident.url, error)
        finally:
            self._looking.discard(resident.target)

    async def _replace(self, old: Resident, version: ObjectInfo) -> None:
        """Load another version beside the old one, then let the old one go."""
        self._record("object_changed", old.target, text=f"etag {version.etag}")
        new = self._residents.begin_version(old.target)
        serve = False
        try:
            await asyncio.shield(self._bring(new, version))
            serve = True
        except (ApiError, ContainerError) as error:
            log.warning("%s: stays as it was: %s", old.url, error)
        finally:
            before = self._residents.end_version(new, serve=serve)
        if new.users == 0:
            self._residents.forget_if_out(new)  # it had to go for others already
        if before is not None:
            self._send_away(before)
