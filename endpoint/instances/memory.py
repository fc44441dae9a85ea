"""Loading and unloading by the container's contract, and who is unloaded for whom.

A container that answers 507 has no memory for a model: the least recently used of the others is
unloaded and the load tried again. When all others are in use, the load waits until one is not;
after a while the one that fewest need lets its running requests finish and gives way, so that no
model is kept waiting for ever by busy ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from pathlib import Path
from time import perf_counter
from typing import Any

from endpoint.events import Record
from endpoint.fleets.fleet import Container
from endpoint.instances.container_client import (
    FULL,
    LOADED_ALREADY,
    NOT_LOADED,
    OK,
    Answer,
    BadAnswer,
    ContainerClient,
    ContainerError,
    ContainerTimeout,
)
from endpoint.instances.resident import Resident, Stage, least_recently_used, least_wanted
from endpoint.instances.residents import Residents
from endpoint.instances.words import Words
from endpoint.settings import EndpointSettings

log = logging.getLogger("modelyard.endpoint")

# A load waits so long for an unused model before a busy one has to give way.
_PATIENCE_SECONDS = 2.0


class Memory:
    """What one container has loaded, as far as the endpoint knows."""

    def __init__(
        self,
        client: ContainerClient,
        container: Container,
        residents: Residents,
        settings: EndpointSettings,
        words: Words,
        record: Record,
    ) -> None:
        self._client = client
        self._container = container
        self._residents = residents
        self._settings = settings
        self._words = words
        self._record = record
        self._making_room = asyncio.Lock()
        self._changed = asyncio.Event()
        self._posting = 0  # loads that the container is asked for
        self._freed = 0  # how often there came to be more room in the container
        # Ids of models on the disk that it had no memory for, last time.
        self._refused: set[str] = set()
        self._drops: set[asyncio.Task[None]] = set()

    def changed(self) -> None:
        """A model may be unused now."""
        self._changed.set()

    async def load(self, resident: Resident, directory: Path) -> None:
        """Have the container load a model that is on the disk.

        Raises ModelError with the container's words, DoesNotFit when it is refused although
        nothing else is loaded, ContainerError when the container is gone, and TimeoutError.
        """
        resident.enter(Stage.LOADING)
        loop = asyncio.get_running_loop()
        begun = perf_counter()
        try:
            await self._stay_below_threshold()
            answer = await self._post_until_it_fits(resident, self._container.path(directory))
            if answer.status not in (OK, LOADED_ALREADY):
                raise self._words.answered(answer)
        except BaseException:
            resident.enter(Stage.OUT)
            resident.loads += 1  # it may be there all the same
            self._freed += 1
            self.changed()
            raise
        resident.enter(Stage.LOADED)
        resident.last_used = loop.time()
        if answer.status == OK:
            resident.loads += 1
            self._record("load", resident.target, seconds=perf_counter() - begun)
        self.changed()

    def unload(self, resident: Resident, why: str) -> asyncio.Task[bool]:
        """Take a model out when its running requests have finished; the task says whether it is."""
        return self.leave(resident, self.take_out(resident, why))

    def leave(self, resident: Resident, way: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        """Let a model go by ``way``, unless it is leaving; whoever wants it waits for that."""
        if resident.leaving is not None:
            way.close()
            return resident.leaving
        going = resident.leaving = asyncio.create_task(self._go(resident, way))
        going.add_done_callback(lambda _: way.close())  # if it was cancelled before it began
        going.add_done_callback(lambda _: self._left(resident, going))
        return going

    async def take_out(self, resident: Resident, why: str) -> bool:
        """The way out of memory, for ``leave``; False if the container does not let it go.

        Raises ContainerError when the container is gone.
        """
        while resident.running:  # another may have begun before this goes on
            await resident.quiet.wait()
        if resident.stage is not Stage.LOADED:
            return True
        begun = perf_counter()
        gone = await self._delete(resident)
        if gone:
            self._freed += 1
            self._record("unload", resident.target, seconds=perf_counter() - begun, text=why)
        return gone

    async def unload_unused(self, why: str) -> bool:
        """Unload the least recently used model that nobody needs; False if there is none."""
        victim = least_recently_used(self._residents)
        return victim is not None and await asyncio.shield(self.unload(victim, why))

    async def unload_quiet(self, but: Resident, why: str) -> bool:
        """Unload another model that nobody needs, else one for which no request runs.

        Waits a while for one; but never one that computes gives way: a model that never has enough
        memory would stop all others.
        """
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while (victim := self._quiet_victim(but)) is None:
                    if least_wanted(self._residents, {but}) is None and not self._somebody_moves:
                        return False
                    await self._next_change()
        except TimeoutError:
            return False
        return await asyncio.shield(self.unload(victim, why))

    async def has(self, resident: Resident) -> bool:
        """Whether the container says that it has a model.

        False also when it cannot tell: some that are in use fail on this request.
        """
        try:
            return (await self._client.describe(resident.id)).status == OK
        except ContainerError:
            return False

    def deleted(self, model_id: str) -> None:
        """A model's directory goes: the container is not to keep its name, if it does."""
        if model_id in self._refused:
            self._refused.remove(model_id)
            self.drop(model_id)

    def drop(self, model_id: str, target: str = "") -> None:
        """Have the container unload what nobody here knows, or what it never finished to load."""
        task = asyncio.create_task(self._drop(model_id, target))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        under_way = [*self._drops, *(one.leaving for one in self._residents if one.leaving)]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _drop(self, model_id: str, target: str) -> None:
        timeout = self._settings.unload_timeout_seconds
        try:
            await self._client.unload(model_id, target, timeout)
            self._freed += 1
            self.changed()
        except ContainerError as error:
            log.warning("%s: cannot be unloaded: %s", target or model_id, error)

    async def _go(self, resident: Resident, way: Coroutine[Any, Any, bool]) -> bool:
        try:
            return await way
        finally:
            # Not later: whoever waited for a task that is done would wait without a pause.
            resident.leaving = None

    def _left(self, resident: Resident, going: asyncio.Task[bool]) -> None:
        if not going.cancelled():
            error = going.exception()  # those who waited for it have been told
            if error is not None and not isinstance(error, ContainerError):
                log.error("%s: its way out broke off", resident.target, exc_info=error)
        self.changed()
        if resident.users == 0:
            self._residents.forget_if_out(resident)

    async def _make_room(self, since: int) -> bool:
        """Unload the model that is missed least; wait for one if all are busy.

        True when there should be more room than when ``_freed`` was ``since``. False when there is
        nobody whom the container lets go. Raises ContainerError when it is gone.
        """
        kept: set[Resident] = set()
        async with self._making_room:
            while (victim := await self._victim(kept)) is not None:
                # It goes on for those who wait for the victim, should this be cancelled.
                if await asyncio.shield(self.unload(victim, "to make room")):
                    return True
                kept.add(victim)
            return self._freed > since

    async def _victim(self, kept: Collection[Resident]) -> Resident | None:
        patient_until = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while (victim := least_recently_used(self._residents, kept)) is None:
            busy = least_wanted(self._residents, kept)
            if busy is None and not self._somebody_moves:
                return None
            try:
                async with asyncio.timeout_at(None if busy is None else patient_until):
                    await self._next_change()
            except TimeoutError:
                return busy
        return victim

    def _quiet_victim(self, but: Resident) -> Resident | None:
        quiet = [one for one in self._residents if one.running == 0]
        return least_recently_used(quiet, {but}) or least_wanted(quiet, {but})

    @property
    def _somebody_moves(self) -> bool:
        """A model is on its way in or out, and then there is more to choose from, or more room."""
        return self._posting > 0 or any(one.leaving is not None for one in self._residents)

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _post_until_it_fits(self, resident: Resident, path: str) -> Answer:
        freed = self._freed
        while (answer := await self._post(resident, path)).status == FULL:
            if not await self._make_room(since=freed):
                alone = self._is_alone(resident)
                raise self._words.no_memory(resident.target, answer.text, alone=alone)
            freed = self._freed
        return answer

    def _is_alone(self, resident: Resident) -> bool:
        """Nothing but that model is in the container, or on its way into it or out of it."""
        outside = (Stage.OUT, Stage.FETCHING)
        others = [one for one in self._residents if one is not resident]
        return not self._drops and all(one.stage in outside for one in others)

    async def _post(self, resident: Resident, path: str) -> Answer:
        self._posting += 1
        try:
            answer = await self._ask_to_load(resident, path)
            if answer.status == LOADED_ALREADY and resident.id in self._refused:
                # multi-model-server keeps the name of a model that it had no memory for.
                await self._ask_to_unload(resident)
                answer = await self._ask_to_load(resident, path)
        except ContainerTimeout as error:
            raise TimeoutError from error
        finally:
            self._posting -= 1
            self.changed()
        (self._refused.add if answer.status == FULL else self._refused.discard)(resident.id)
        return answer

    async def _ask_to_load(self, resident: Resident, path: str) -> Answer:
        timeout = self._settings.load_timeout_seconds
        return await self._client.load(resident.id, path, resident.target, timeout)

    async def _ask_to_unload(self, resident: Resident) -> Answer:
        timeout = self._settings.unload_timeout_seconds
        return await self._client.unload(resident.id, resident.target, timeout)

    async def _stay_below_threshold(self) -> None:
        threshold = self._settings.memory_threshold_percent
        while threshold:
            use = await self._container.measure()
            if use is None or use.used * 100 < threshold * use.limit:
                return
            if not await self.unload_unused(f"memory is over {threshold} %"):
                return

    async def _delete(self, resident: Resident) -> bool:
        resident.enter(Stage.UNLOADING)
        try:
            answer = await self._ask_to_unload(resident)
            if answer.status in (OK, NOT_LOADED):
                resident.enter(Stage.OUT)
                return True
            problem = f"{answer.status}: {answer.text[:200]}"
        except (ContainerTimeout, BadAnswer) as error:
            problem = str(error)
        finally:
            if resident.stage is Stage.UNLOADING:
                resident.enter(Stage.LOADED)
        log.warning("%s: the container does not unload it: %s", resident.target, problem)
        resident.last_used = asyncio.get_running_loop().time()  # others are tried before it
        return False
