"""A production variant that runs: its slots, and the way of a request to one of its instances."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from endpoint.errors import ModelError, ServiceUnavailable
from endpoint.events import Record
from endpoint.instances.container_client import FULL, Answer, ContainerLost, ContainerUnreachable
from endpoint.instances.instance import Instance
from endpoint.instances.words import Words
from endpoint.invocation import Invocation
from endpoint.live.hot_models import HotModels
from endpoint.live.sessions import Sessions, session_of
from endpoint.live.slot import Slot, StartFailed
from endpoint.routing.places import Where, choose
from endpoint.settings import EndpointSettings
from endpoint.specs import Mode, Routing, VariantSpec
from endpoint.variant_summary import VariantSummary

log = logging.getLogger("modelyard.endpoint")

# A request whose instances were all lost with it is given up after so many.
_MOST_LOSSES = 4

# After a restart requests wait so long for instances that may have their model in memory.
_FINDING_SECONDS = 3.0

# Between two looks for an instance when all that are known do not answer.
_PAUSE_SECONDS = 0.1


class MakeSlot(Protocol):
    """Makes a slot, which begins to fill itself."""

    def __call__(self, number: int, changed: Callable[[], None], *, patient: bool) -> Slot:
        """``changed`` and ``patient`` are those of ``Slot``."""


class Variant:
    """A variant of an endpoint, without instances at first."""

    def __init__(
        self,
        spec: VariantSpec,
        weight: float,
        make_slot: MakeSlot,
        settings: EndpointSettings,
        words: Words,
        record: Record,
        dice: Callable[[], float],
    ) -> None:
        """``dice`` is from [0, 1) each time."""
        self.spec = spec
        self.weight = weight
        self.desired_weight = weight
        self.desired_count = 0
        self.status = ""
        self.status_since = time.time()
        self._make_slot = make_slot
        self._settings = settings
        self._words = words
        self._dice = dice
        self._slots: dict[int, Slot] = {}
        self._change = asyncio.Event()
        self._sessions = Sessions()
        self._finding: asyncio.Task[None] | None = None
        self._hot = HotModels(settings, record, self.serving)
        self._balancing = asyncio.create_task(self._hot.run())

    # --- its instances --------------------------------------------------------------------------

    async def grow(self, count: int) -> None:
        """Have so many instances or more; returns when the new ones serve.

        Raises StartFailed, and then what was started for it is gone.
        """
        self.desired_count = count
        before = len(self._slots)
        new = self._start_slots(count - before, patient=False)
        try:
            for slot in new:
                await slot.started()
        except StartFailed:
            self.desired_count = before
            await self._vacate(new)
            raise

    async def shrink(self, count: int) -> None:
        """Have so many instances or fewer; returns when the others are gone."""
        self.desired_count = count
        await self._vacate([self._slots[number] for number in sorted(self._slots)[count:]])

    def fill(self, count: int) -> None:
        """Have so many instances sometime, those first that run already.

        Requests that come before wait for the first; a while for all, one of which has the model.
        """
        self.desired_count = count
        new = self._start_slots(count, patient=True)
        self._finding = asyncio.create_task(_all_tried(new))

    async def close(self) -> None:
        """Let all instances finish what they have, and remove them."""
        self.desired_count = 0
        self._balancing.cancel()
        await self._vacate(list(self._slots.values()))

    async def halt(self) -> None:
        """Stop all instances; they are started again in another life of this process."""
        self._balancing.cancel()
        await _end({slot: slot.halt() for slot in self._slots.values()})

    async def let_go(self) -> None:
        """Leave all instances running, to be found in another life of this process."""
        self._balancing.cancel()
        await _end({slot: slot.let_go() for slot in self._slots.values()})

    def serving(self) -> list[Instance]:
        """Instances that requests may be sent to."""
        return [one for slot in self._slots.values() if (one := slot.serving) is not None]

    def _start_slots(self, count: int, *, patient: bool) -> list[Slot]:
        """Add so many slots, with the lowest numbers that are free."""
        free = (number for number in itertools.count() if number not in self._slots)
        numbers = list(itertools.islice(free, max(count, 0)))
        new = {
            number: self._make_slot(number, self._changed, patient=patient) for number in numbers
        }
        self._slots |= new
        return list(new.values())

    async def _vacate(self, slots: Iterable[Slot]) -> None:
        drain = self._settings.invoke_timeout_seconds
        leaving = list(slots)
        await _end({slot: slot.vacate(drain) for slot in leaving})
        for slot in leaving:
            del self._slots[slot.number]

    def _changed(self) -> None:
        self._change.set()

    # --- requests -------------------------------------------------------------------------------

    async def invoke(self, invocation: Invocation, deadline: float) -> Answer:
        """A container's answer, which is no error; ``deadline`` is by the loop's clock.

        Raises ApiError.
        """
        target = invocation.target_model
        if target is None or not self.spec.container.keeps_models:
            return await self._invoke(invocation, deadline)  # a copy would leave as soon as it came
        with self._hot.counting(target):
            return await self._invoke(invocation, deadline)

    async def _invoke(self, invocation: Invocation, deadline: float) -> Answer:
        avoided: set[Instance] = set()
        losses = 0
        refused = False
        while True:
            instance = await self._instance_for(invocation, avoided, deadline)
            avoided.add(instance)
            invocation.progress.instance = instance.spec.id
            try:
                answer = await instance.invoke(invocation, deadline)
            except ContainerUnreachable:
                continue
            except ModelError as error:
                elsewhere = len(self.serving()) > len(avoided)
                if error.original_status != FULL or refused or not elsewhere:
                    raise
                refused = True  # another instance may have more room
            except ContainerLost as error:
                losses += 1
                if not self._settings.retry_lost_requests or losses == _MOST_LOSSES:
                    raise self._words.lost(str(error)) from None
            else:
                self._sessions.note(invocation.headers, answer.headers, instance.spec.id)
                return answer

    def has_session(self, session: str) -> bool:
        """Whether an instance of this variant has that session."""
        return self._sessions.instance(session) is not None

    async def _instance_for(
        self, invocation: Invocation, avoided: set[Instance], deadline: float
    ) -> Instance:
        """An instance; one that was ``avoided`` only if there is no other after a while."""
        if self._finding is not None and not self._finding.done():
            await asyncio.shield(self._finding)
        serving = self.serving()
        while not (there := [one for one in serving if one not in avoided]):
            avoided.clear()
            await self._wait_for_change(deadline)
            serving = self.serving()
        invocation.progress.serving = len(serving)
        there = [one for one in there if not one.suspect] or there
        if session := session_of(invocation.headers):
            home = self._sessions.instance(session)
            there = [one for one in there if one.spec.id == home] or there
        if self.spec.container.mode is Mode.MULTI and invocation.target_model is not None:
            return self._route(invocation.target_model, there)
        if self.spec.routing is Routing.RANDOM:
            return there[int(self._dice() * len(there))]
        return min(there, key=lambda instance: instance.requests)

    def _route(self, target: str, there: list[Instance]) -> Instance:
        """Where a model is nearest. What places cost is only asked for when none holds it."""
        if len(there) == 1:
            return there[0]
        near = [one for one in there if one.where(target) <= Where.LOADING]
        if len(near) == 1:
            return near[0]
        places = [one.place(target, weighed=not near) for one in near or there]
        name = choose(places, key=target, routing=self.spec.routing, dice=self._dice())
        return next(one for one in there if one.spec.id == name)

    async def _wait_for_change(self, deadline: float) -> None:
        now = asyncio.get_running_loop().time()
        if now >= deadline or self.desired_count == 0:
            raise ServiceUnavailable(
                f"Variant {self.spec.name} has no instance that could take the request; those that "
                "were lost are being replaced. Try again."
            )
        self._change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_PAUSE_SECONDS, deadline - now)):
                await self._change.wait()

    # --- for people -----------------------------------------------------------------------------

    def tell(self, status: str) -> None:
        """What is being done with it; "" when nothing is."""
        self.status, self.status_since = status, time.time()

    def described(self) -> VariantSummary:
        """This variant for DescribeEndpoint."""
        return VariantSummary(
            spec=self.spec,
            current_weight=self.weight,
            desired_weight=self.desired_weight,
            current_instance_count=len(self.serving()),
            desired_instance_count=self.desired_count,
            status=self.status,
            status_since=self.status_since,
        )

    def summary(self, *, disk: bool) -> dict[str, Any]:
        """This variant for ``GET /status``."""
        return {
            "name": self.spec.name,
            "weight": self.weight,
            "desired_instances": self.desired_count,
            "instances": [slot.instance.summary(disk=disk) for slot in self._slots.values()],
        }


async def _end(ways: Mapping[Slot, Awaitable[None]]) -> None:
    """Whatever becomes of it: what cannot be stopped now is on record, and stopped another time."""
    outcomes = await asyncio.gather(*ways.values(), return_exceptions=True)
    for slot, outcome in zip(ways, outcomes, strict=True):
        if isinstance(outcome, Exception):
            log.error("instance %s cannot be stopped now", slot.instance.spec.id, exc_info=outcome)


async def _all_tried(slots: list[Slot]) -> None:
    """Return when each has an instance, or has none after all; or after a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FINDING_SECONDS):
            for slot in slots:
                await slot.tried.wait()
