"""Requests to the models of one instance, and what is done about a container's 404 and 507."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter

from endpoint.instances.container_client import (
    FULL,
    NOT_LOADED,
    Answer,
    ContainerClient,
    ContainerLost,
    ContainerUnreachable,
)
from endpoint.instances.models import Models
from endpoint.instances.resident import Resident
from endpoint.invocation import Headers, Invocation, Progress

# A model that always answers 507 must not cost all others their places.
_MOST_UNLOADED = 2

# In microseconds, in an answer of our own container.
_LOADING_WAIT_TIME = "x-modelyard-loading-wait-time"
_MAX_DIGITS = 12


class Exchange:
    """Sends requests to one container; ``models`` is None where it serves a single one."""

    def __init__(self, client: ContainerClient, models: Models | None) -> None:
        self._client = client
        self._models = models

    async def invoke(self, invocation: Invocation, deadline: float) -> Answer:
        """The container's answer, whatever its status. Raises ApiError and ContainerError."""
        if self._models is None or invocation.target_model is None:
            asked = self._client.invocations(invocation.headers, invocation.body, _left(deadline))
            return await _timed(asked, invocation.progress)
        await self._models.refresh(invocation.target_model)
        with self._models.using(invocation.target_model) as resident:
            await _ready(self._models, resident, invocation.progress, deadline)
            return await self._ask(self._models, resident, invocation, deadline)

    async def _ask(
        self, models: Models, resident: Resident, invocation: Invocation, deadline: float
    ) -> Answer:
        """Invoke a model; heal what a container may have forgotten or has no memory for.

        For one request that has no memory two other models are unloaded at most.
        """
        loads = resident.loads
        answer = await self._run(resident, invocation, deadline)
        if answer.status == NOT_LOADED and await _reload(
            models, resident, loads, invocation.progress, deadline
        ):
            answer = await self._run(resident, invocation, deadline)
        for _ in range(_MOST_UNLOADED):
            if answer.status != FULL or not await self._make_room(models, resident, deadline):
                break
            # It may have had to give way to others.
            await _ready(models, resident, invocation.progress, deadline)
            answer = await self._run(resident, invocation, deadline)
        return answer

    async def _make_room(self, models: Models, resident: Resident, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                return await models.make_room(resident)
        except TimeoutError:
            return False

    async def _run(self, resident: Resident, invocation: Invocation, deadline: float) -> Answer:
        resident.begin_run()
        try:
            return await self._send(resident.id, invocation, deadline)
        except ContainerLost as error:
            if not (error.reused and error.before_answer):
                raise
            # An idle connection that the container closed just then.
            try:
                return await self._send(resident.id, invocation, deadline)
            except ContainerUnreachable:  # so it was not idle: the container has died
                raise error from None
        finally:
            resident.end_run()

    async def _send(self, model_id: str, invocation: Invocation, deadline: float) -> Answer:
        asked = self._client.invoke(model_id, invocation.headers, invocation.body, _left(deadline))
        answer = await _timed(asked, invocation.progress)
        _note_return(answer, invocation.progress)
        return answer


async def _timed(asked: Awaitable[Answer], progress: Progress) -> Answer:
    """Note the time in the container, whatever comes of it."""
    begun = perf_counter()  # the loop's clock counts whole milliseconds
    try:
        return await asked
    finally:
        progress.model_seconds += perf_counter() - begun


def _note_return(answer: Answer, progress: Progress) -> None:
    """Note the wait for a model that our own container had evicted by itself, and brought back.

    Nobody else can tell: it has listed the model all the time.
    """
    waited_seconds = min(_told_wait(answer.headers), progress.model_seconds)
    if waited_seconds:
        progress.hit = False
        progress.waited_seconds += waited_seconds
        progress.model_seconds -= waited_seconds


def _told_wait(headers: Headers) -> float:
    """Seconds; 0.0 where the container does not tell."""
    for name, value in headers:
        if name.lower() == _LOADING_WAIT_TIME and value.isdecimal() and len(value) <= _MAX_DIGITS:
            return int(value) / 1_000_000
    return 0.0


async def _ready(models: Models, resident: Resident, progress: Progress, deadline: float) -> None:
    """Have the model in memory, and note whether it was, and the wait for it."""
    if resident.is_ready:
        # What was a miss on an instance that was lost is one.
        progress.hit = progress.hit is not False
        await models.ready(resident, deadline)
        return
    progress.hit = False
    begun = perf_counter()
    try:
        await models.ready(resident, deadline)
    finally:
        progress.waited_seconds += perf_counter() - begun


async def _reload(
    models: Models, resident: Resident, loads: int, progress: Progress, deadline: float
) -> bool:
    """As ``Models.reload``; if it was not in memory after all, that is noted, and the wait."""
    begun = perf_counter()
    loaded = await models.reload(resident, loads, deadline)
    if loaded:
        progress.hit = False
        progress.waited_seconds += perf_counter() - begun
    return loaded


def _left(deadline: float) -> float:
    return max(deadline - asyncio.get_running_loop().time(), 0.001)
