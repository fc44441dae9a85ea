"""Which containers of an engine have ended: one call a second for all of them.

Looking, and not waiting in one long call for each one's end, goes on when the engine is started
again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from endpoint.fleets.docker_container import DockerContainer
from endpoint.fleets.engine import Engine

log = logging.getLogger("modelyard.fleets")

INSTANCE_LABEL = "modelyard.instance"

_LOOK_SECONDS = 1.0


class DockerWatch:
    """Looks on while there are containers. For the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._containers: list[DockerContainer] = []
        self._looking: asyncio.Task[None] | None = None

    def add(self, container: DockerContainer) -> None:
        """Have it told when it has ended."""
        self._containers.append(container)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())

    def containers(self) -> list[DockerContainer]:
        """Those that run."""
        return [held for held in self._containers if held.running]

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look_on(self) -> None:
        failing = False
        while True:
            self._containers = self.containers()
            try:
                await self._look()
                failing = False
            except Exception as error:  # an end that nobody sees would lose requests
                if not failing:
                    log.warning("containers cannot be looked at", exc_info=error)
                failing = True
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        """Have each look that the engine does not list as running."""
        held = self.containers()  # before the list is made: what is started meanwhile is not in it
        if not held:
            return
        running = await self._engine.call(_running)
        gone = [one.look() for one in held if one.record["container"] not in running]
        for result in await asyncio.gather(*gone, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


def _running(client: Any) -> set[str]:
    """Ids; by the plain call, since the other asks again for each container."""
    listed = client.api.containers(filters={"label": INSTANCE_LABEL, "status": "running"})
    return {container["Id"] for container in listed}
