"""Following the store: an object that has changed replaces its model, one that has gone takes it
away, and no request is dropped for it.
"""

from __future__ import annotations

import asyncio
import contextlib
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
        self._looks: dict[str, asyncio.Task[None]] = {}

    def used(self, resident: Resident) -> None:
        """A request has it: look at its object if that is due. The request does not wait."""
        if self._is_due(resident):
            self._begin(resident)

    async def refresh(self, resident: Resident) -> None:
        """The first request after a while is about to have it: look before, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT_SECONDS):
                if look := self._looks.get(resident.target):  # which may have begun too early
                    await asyncio.wait({look})
                if self._is_due(resident):
                    await asyncio.wait({self._begin(resident)})

    def _is_due(self, resident: Resident) -> bool:
        return resident.target not in self._looks and self._files.is_due(resident.target)

    def _begin(self, resident: Resident) -> asyncio.Task[None]:
        look = self._looks[resident.target] = self._spawn(self._look(resident))
        return look

    async def _look(self, resident: Resident) -> None:
        try:
            info = await self._files.look(resident.target, resident.url)
            current = self._residents.get(resident.target)  # another look may have replaced it
            if current is not None and current.stored and info.etag != current.stored.etag:
                await self._replace(current, info)
        except ObjectMissing as error:
            if self._residents.get(resident.target) is resident:
                self._record("object_gone", resident.target, text=str(error))
                self._send_away(resident)
        except StoreError as error:
            log.warning("%s: cannot be looked at: %s", resident.url, error)
        finally:
            del self._looks[resident.target]

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
