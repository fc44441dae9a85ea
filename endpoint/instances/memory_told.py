"""What a container tells of its memory beyond the contract: who holds how much, who left for whom.

Our own container does; one that does not is asked seldom, and nothing is known of it. Whatever it
answers is no reason to think ill of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from endpoint.events import Record
from endpoint.instances.container_client import MIB, OK, ContainerClient, ContainerError
from endpoint.instances.memory_answers import (
    Decision,
    NotTold,
    decisions_in,
    departures,
    held_in,
)

log = logging.getLogger("modelyard.endpoint")

# A container with 10,000 models tells of 3 MiB.
_MOST_BYTES = 16 * MIB

# One that does not tell may have been busy, or be replaced behind its address.
_SELDOM_SECONDS = 300.0

# One with very many models takes long: then others go first.
_REST_TIMES = 20

# Decisions that are asked for; when all of them are new, as many as there can be.
_FEW, _MANY = 20, 1000

# What people call the container's models, by the container's ids.
Names = Callable[[], Mapping[str, str]]


class MemoryTold:
    """Asks one container again and again, while ``run`` runs."""

    def __init__(
        self,
        client: ContainerClient,
        names: Names,
        record: Record,
        *,
        pause_seconds: float,
        found: bool,
    ) -> None:
        """A container that was ``found`` has told what it did to an earlier life of ours."""
        self.held: Mapping[str, int] = {}  # bytes of RAM by the container's ids
        self._client = client
        self._names = names
        self._record = record
        self._pause_seconds = pause_seconds
        self._known: int | None = None if found else 0  # the number of the last decision told
        self._limit = _FEW

    async def run(self) -> None:
        """Ask, for ever; what goes wrong is that nothing is told."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            tells = await self.ask()
            took = loop.time() - begun
            pause = max(self._pause_seconds, _REST_TIMES * took) if tells else _SELDOM_SECONDS
            await asyncio.sleep(pause)

    async def ask(self) -> bool:
        """Ask once; False if the container does not tell."""
        try:
            self.held = held_in(await self._get("/memory"))
            self._hear(decisions_in(await self._get(f"/memory/decisions?limit={self._limit}")))
        except (ContainerError, NotTold) as error:
            log.debug("%s tells nothing of its memory: %s", self._client.url, error)
            self.held = {}
            return False
        return True

    async def _get(self, path: str) -> bytes:
        answer = await self._client.tell(path, _MOST_BYTES)
        if answer.status != OK:
            raise NotTold(f"GET {path}: {answer.status}")
        return answer.body

    def _hear(self, decisions: list[Decision]) -> None:
        """Tell of those that are new, oldest first; they come the newest first."""
        newest = decisions[0].number if decisions else 0
        if self._known is None:
            self._known = newest
        if newest < self._known:  # it has begun anew
            self._known = 0
        new = [one for one in decisions if one.number > self._known]
        if len(new) == self._limit < _MANY and new[-1].number > self._known + 1:
            self._limit = _MANY  # and then tell of all
            return
        self._limit = _FEW
        self._known = newest
        if any(one.victims for one in new):
            self._tell(new)

    def _tell(self, new: list[Decision]) -> None:
        names = self._names()

        def name(id: str) -> str:
            return names.get(id, id)

        now = time.time()
        for decision in reversed(new):
            for one in departures(decision, name):
                self._record(one.kind, name(one.model), text=one.text, at=min(one.at, now))
