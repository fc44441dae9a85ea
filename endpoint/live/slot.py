"""A place for one instance of a variant: keeps an instance in it, whatever becomes of each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec

from endpoint.events import Record
from endpoint.fleets.fleet import FleetError
from endpoint.instances.health import NotHealthy
from endpoint.instances.instance import Instance, State
from endpoint.live.files import remove_directory
from endpoint.live.turns import Turns
from endpoint.records import InstanceRecord
from endpoint.state import Table

log = logging.getLogger("modelyard.endpoint")

# Between attempts to start an instance in the place of one that was lost.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 60.0

# One that was lost after it had served for so long is replaced at once.
_SETTLED_SECONDS = 10.0


class StartFailed(Exception):
    """Raised when an instance cannot be started; the text is for the user."""


class Slot:
    """Starts an instance, replaces it when it is lost. ``record`` says whose it is."""

    def __init__(
        self,
        record: InstanceRecord,
        table: Table[InstanceRecord],
        make: Callable[[], Instance],
        tell: Record,
        turns: Turns,
        *,
        changed: Callable[[], None],
        patient: bool,
    ) -> None:
        """``changed`` is called when there is an instance to send requests to, or is no more.

        ``patient``: a first instance that does not come up is tried again and again, as later ones
        are in any case.
        """
        self._patient = patient
        self._record = record
        self._table = table
        self._make = make
        self._tell = tell
        self._turns = turns
        self._changed = changed
        self.instance = make()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tried = asyncio.Event()  # an instance serves, or did not come up
        self._keeping = asyncio.create_task(self._keep())

    @property
    def number(self) -> int:
        """Of this slot among those of its variant."""
        return self._record.slot

    async def started(self) -> None:
        """Return when the first instance serves. Raises StartFailed when it does not come to it."""
        await asyncio.shield(self._first)

    async def vacate(self, drain_seconds: float) -> None:
        """Let the instance finish what it has, stop it, and remove all of it.

        Raises FleetError, StateError; the instance takes no requests then, but may run.
        """
        await self._end_keeping()
        self.instance.drain()
        self._changed()
        await self.instance.drained(drain_seconds)
        await self.instance.stop()
        await remove_directory(self.instance.spec.directory)
        self._table.remove(self._record.id)

    async def halt(self) -> None:
        """Stop the instance; its files stay for the next time."""
        await self._end_keeping()
        await self.instance.stop()
        self._table.remove(self._record.id)

    async def let_go(self) -> None:
        """Leave the instance running, for another life of this process."""
        await self._end_keeping()
        await self.instance.let_go()

    async def _end_keeping(self) -> None:
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        if not self._first.done():
            self._first.cancel()

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            try:
                async with self._turn():
                    await self._bring_up()
            except Exception as error:
                self.tried.set()
                if not isinstance(error, FleetError | NotHealthy | OSError):
                    log.exception("instance %s failed at its start", self._record.id)
                await self._discard()
                if not self._patient and not self._first.done():
                    self._first.set_exception(StartFailed(str(error)))
                    self._first.exception()  # whoever waits is told; nobody may wait
                    return
                self._tell("instance_lost", text=str(error))
            else:
                begun = time.monotonic()
                await self._serve()
                if time.monotonic() - begun > _SETTLED_SECONDS:
                    pause = 0.0
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self.instance = self._make()

    def _turn(self) -> AbstractAsyncContextManager[None]:
        """One that may run already is looked for at once: who cancels that must know of it."""
        known = self._table.get(self._record.id)
        return self._turns.one() if known is None else nullcontext()

    async def _bring_up(self) -> None:
        known = self._table.get(self._record.id)
        # Before it is started, so that no container is ever there of which nobody knows.
        self._table.put(known or self._record)
        handle = await self.instance.start(None if known is None else known.handle)
        self._table.put(msgspec.structs.replace(self._record, handle=dict(handle)))
        await self.instance.until_healthy()

    async def _serve(self) -> None:
        if not self._first.done():
            self._first.set_result(None)
        self.tried.set()
        self._changed()
        try:
            await self.instance.lost()
        except Exception:  # a slot that nobody looks after would be empty for ever
            log.exception("instance %s cannot be looked at; it is replaced", self._record.id)
            self.instance.drain()
        self._changed()
        await self._discard()

    async def _discard(self) -> None:
        try:
            await self.instance.stop(at_once=True)
        except Exception:
            log.exception("instance %s cannot be stopped", self._record.id)

    @property
    def serving(self) -> Instance | None:
        """The instance, while requests may be sent to it."""
        return self.instance if self.instance.state is State.SERVING else None
