"""Instances of an earlier life of this process that nobody goes on with."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from endpoint.fleets.fleet import Fleet, InstanceSpec
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

    async def halt(self, current: Mapping[str, Collection[int]]) -> None:
        """Those that are in none of the generations that each endpoint has.

        One that cannot be stopped is left to the next life.
        """
        strays = [
            record
            for record in self._table.all()
            if record.generation not in current.get(record.endpoint, ())
        ]
        outcomes = await asyncio.gather(*map(self._halt, strays), return_exceptions=True)
        for record, outcome in zip(strays, outcomes, strict=True):
            if isinstance(outcome, Exception):
                log.error("instance %s cannot be stopped", record.id, exc_info=outcome)
        await asyncio.to_thread(_remove_files, self._directory.glob("*.*.*.*"), current)

    async def halt_all_of(self, endpoint: str) -> None:
        """Those of one endpoint. Raises FleetError."""
        records = [record for record in self._table.all() if record.endpoint == endpoint]
        await asyncio.gather(*map(self._halt, records))

    async def _halt(self, record: InstanceRecord) -> None:
        spec = InstanceSpec(
            id=record.id,
            container=NO_CONTAINER,
            instance_type="",
            directory=self._directory / record.id,
            memory_limit_bytes=None,
        )
        found = await self._fleet.adopt(spec, record.handle)
        if found is not None:
            await found.stop(self._stop_timeout_seconds)
        await asyncio.to_thread(shutil.rmtree, spec.directory, ignore_errors=True)
        self._table.remove(record.id)


def _remove_files(directories: Iterable[Path], current: Mapping[str, Collection[int]]) -> None:
    """Of instances that were stopped in order, so that nothing else tells of them."""
    for directory in directories:
        endpoint, _, generation, _ = directory.name.split(".", 3)
        if not (generation.isdecimal() and int(generation) in current.get(endpoint, ())):
            shutil.rmtree(directory, ignore_errors=True)
