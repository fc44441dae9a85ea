"""Instances that run, or have left files, although nobody in this process looks after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterable
from pathlib import Path

from endpoint.fleets.fleet import Fleet, InstanceSpec
from endpoint.live.files import remove_directory
from endpoint.records import InstanceRecord
from endpoint.specs import NO_CONTAINER
from endpoint.state import Table

log = logging.getLogger("modelyard.endpoint")


class Strays:
    """Stops them and removes their files, which are below ``directory``."""

    def __init__(
        self,
        fleet: Fleet,
        table: Table[InstanceRecord],
        directory: Path,
        stop_timeout_seconds: float,
    ) -> None:
        self._fleet = fleet
        self._table = table
        self._directory = directory
        self._stop_timeout_seconds = stop_timeout_seconds

    async def halt(self, expected: Collection[str]) -> None:
        """All but the instances with these ids.

        One that cannot be stopped is left to the next life of this process.
        """
        strays = [record for record in self._table.all() if record.id not in expected]
        await asyncio.gather(*map(self._stop, strays), return_exceptions=True)
        stay = {*expected, *(record.id for record in self._table.all())}
        there = await asyncio.to_thread(lambda: list(self._directory.glob("*.*.*.*")))
        left = [directory for directory in there if directory.name not in stay]
        await asyncio.gather(*map(remove_directory, left))

    async def halt_all_of(self, endpoint: str) -> None:
        """Those of one endpoint. Raises FleetError, StateError."""
        records = [record for record in self._table.all() if record.endpoint == endpoint]
        await _all(map(self._stop, records))
        await asyncio.gather(*(remove_directory(self._directory / one.id) for one in records))

    async def stop_all(self) -> int:
        """All of a process that was killed; their files stay. Returns how many ran.

        Raises FleetError, StateError, when all have been tried.
        """
        return sum(await _all(map(self._stop, self._table.all())))

    async def _stop(self, record: InstanceRecord) -> bool:
        """Whether it ran."""
        spec = InstanceSpec(
            id=record.id,
            container=NO_CONTAINER,
            instance_type="",
            directory=self._directory / record.id,
            memory_limit_bytes=None,
        )
        try:
            found = await self._fleet.adopt(spec, record.handle)
            if found is not None:
                await found.stop(self._stop_timeout_seconds)
            self._table.remove(record.id)
        except Exception:
            log.exception("instance %s cannot be stopped", record.id)
            raise
        return found is not None


async def _all(attempts: Iterable[Awaitable[bool]]) -> list[bool]:
    """Raises the first error when all are done."""
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome is True for outcome in outcomes]
