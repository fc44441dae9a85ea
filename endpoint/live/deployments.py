"""Creating, updating, resizing and deleting endpoints: what takes time, and its status meanwhile.

Every step is written down before it is begun, so that another life of this process goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from endpoint.events import Events
from endpoint.fleets.fleet import InstanceSpec
from endpoint.instances.instance import Instance, Surroundings
from endpoint.instances.words import Words
from endpoint.live.endpoint import LiveEndpoint
from endpoint.live.insist import insist
from endpoint.live.slot import Slot, StartFailed
from endpoint.live.strays import Strays
from endpoint.live.turns import Turns
from endpoint.live.variant import Variant
from endpoint.names import Names
from endpoint.records import (
    EndpointRecord,
    EndpointStatus,
    InstanceRecord,
    VariantState,
    instance_id,
)
from endpoint.specs import VariantSpec, variants_of
from endpoint.state import State

log = logging.getLogger("modelyard.endpoint")

# DescribeEndpoint's FailureReason has no room for more.
_MAX_REASON = 1024

_NOTHING_NEXT: dict[str, Any] = {"next_config_name": "", "next_snapshot": {}, "next_variants": ()}


class Deployments:
    """Carries changes of endpoints out, one at a time for each."""

    def __init__(
        self, around: Surroundings, state: State, events: Events, dice: Callable[[], float]
    ) -> None:
        self._around = around
        self._settings = around.settings
        self._state = state
        self._events = events
        self._dice = dice
        self._turns = Turns()
        self._directory = Path(around.settings.data_dir).absolute() / "instances"
        self._strays = Strays(
            around.fleet,
            state.instances,
            self._directory,
            around.settings.stop_timeout_seconds,
        )

    # --- what is asked --------------------------------------------------------------------------

    def create(self, live: LiveEndpoint) -> None:
        """Bring up the endpoint of a record that is Creating."""
        self._begin(live, self._create(live))

    def update(self, live: LiveEndpoint) -> None:
        """Go over to the next configuration of a record that is Updating."""
        self._begin(live, self._update(live))

    def resize(self, live: LiveEndpoint) -> None:
        """Change weights and instance counts to those that the record has next."""
        self._begin(live, self._resize(live))

    def resume(self, live: LiveEndpoint) -> None:
        """Bring an endpoint back as it was, and go on with what was being done to it."""
        self._begin(live, self._resume(live))

    def delete(self, live: LiveEndpoint, gone: Callable[[], None]) -> None:
        """End an endpoint; ``gone`` is called when its record is removed."""
        if live.change is not None:
            live.change.cancel()
        self._retire(live)
        self._begin(live, self._delete(live, gone, live.change))

    async def halt_strays(self, expected: Collection[str]) -> None:
        """Stop instances of an earlier life, but those with these ids."""
        await self._strays.halt(expected)

    # --- what becomes of it ---------------------------------------------------------------------

    def _begin(self, live: LiveEndpoint, change: Coroutine[Any, Any, None]) -> None:
        live.change = asyncio.create_task(self._carry_out(live, change))

    async def _carry_out(self, live: LiveEndpoint, change: Coroutine[Any, Any, None]) -> None:
        try:
            await change
        except Exception as error:
            log.exception("endpoint %s: a change failed", live.name)
            await self._end_beside(live)
            # What serves goes on, whatever became of a change.
            status = EndpointStatus.IN_SERVICE if live.variants else EndpointStatus.FAILED
            failure = f"{type(error).__name__}: {error}"[:_MAX_REASON]
            await self._set(live, status, **_NOTHING_NEXT, failure=failure)

    async def _create(self, live: LiveEndpoint) -> None:
        record = self._record(live)
        try:
            new = await self._bring_up(live, record)
        except StartFailed as error:
            await self._end_beside(live)
            await self._set(live, EndpointStatus.FAILED, failure=str(error)[:_MAX_REASON])
        else:
            live.variants, live.coming = new, []
            await self._set(live, EndpointStatus.IN_SERVICE, failure="")

    async def _resume(self, live: LiveEndpoint) -> None:
        record = self._record(live)
        if record.status == EndpointStatus.CREATING:
            await self._create(live)
            return
        live.variants |= self._variants(record)
        for state in record.variants:
            live.variants[state.name].fill(state.instance_count)
        if record.next_config_name:
            await self._update(live)
        elif record.next_variants:
            await self._resize(live)
        elif record.status != EndpointStatus.IN_SERVICE:
            await self._set(live, EndpointStatus.IN_SERVICE)

    async def _update(self, live: LiveEndpoint) -> None:
        record = self._record(live)
        following = msgspec.structs.replace(
            record,
            config_name=record.next_config_name,
            snapshot=record.next_snapshot,
            variants=record.next_variants,
            generation=record.generation + 1,
            failure="",
            **_NOTHING_NEXT,
        )
        try:
            new = await self._bring_up(live, following)
        except StartFailed as error:
            await self._set(live, EndpointStatus.ROLLING_BACK)
            await self._end_beside(live)
            failure = str(error)[:_MAX_REASON]
            await self._set(live, EndpointStatus.IN_SERVICE, **_NOTHING_NEXT, failure=failure)
            return
        await self._put(following)
        live.leaving = list(live.variants.values())
        live.variants, live.coming = new, []
        await self._end_beside(live)
        await self._set(live, EndpointStatus.IN_SERVICE)

    async def _resize(self, live: LiveEndpoint) -> None:
        """All variants grow first: if one cannot, all are as they were, their weights too."""
        record = self._record(live)
        kept, failure = record.next_variants, ""
        for state in kept:
            live.variants[state.name].desired_weight = state.weight
            live.variants[state.name].tell(EndpointStatus.UPDATING)
        try:
            await _all_grown(live.variants, kept)
        except StartFailed as error:
            kept, failure = record.variants, str(error)[:_MAX_REASON]
            await self._set(live, EndpointStatus.ROLLING_BACK)
        for state in kept:
            variant = live.variants[state.name]
            variant.weight = variant.desired_weight = state.weight
        await asyncio.gather(*(live.variants[one.name].shrink(one.instance_count) for one in kept))
        for state in kept:
            live.variants[state.name].tell("")
        await self._set(
            live, EndpointStatus.IN_SERVICE, variants=kept, next_variants=(), failure=failure
        )

    async def _delete(
        self, live: LiveEndpoint, gone: Callable[[], None], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._retire(live)  # also what a change has put into service at its very end
        await self._end_beside(live)

        async def forget() -> None:
            await self._strays.halt_all_of(live.name)
            self._state.endpoints.remove(live.name)

        await insist(forget, f"endpoint {live.name} cannot be deleted")
        self._events.of(live.name)("endpoint_status", text="Deleted")
        gone()

    # --- fleets ---------------------------------------------------------------------------------

    async def _bring_up(self, live: LiveEndpoint, record: EndpointRecord) -> dict[str, Variant]:
        """Start all variants of a record as ``coming``; they are returned when all serve.

        Raises StartFailed; then some may have started.
        """
        new = self._variants(record)
        live.coming = list(new.values())
        for variant in live.coming:
            variant.tell(EndpointStatus.CREATING)
        await _all_grown(new, record.variants)
        for variant in live.coming:
            variant.tell("")
        return new

    def _retire(self, live: LiveEndpoint) -> None:
        """Let no variant take requests any more."""
        live.leaving += live.variants.values()
        live.variants = {}

    async def _end_beside(self, live: LiveEndpoint) -> None:
        """End all variants but those that take requests."""
        live.leaving += live.coming
        live.coming = []
        for variant in live.leaving:
            variant.tell(EndpointStatus.DELETING)
        await asyncio.gather(*(variant.close() for variant in live.leaving))
        live.leaving = []

    def _variants(self, record: EndpointRecord) -> dict[str, Variant]:
        """The variants of a record, without instances."""
        specs = {spec.name: spec for spec in variants_of(record.snapshot)}
        return {
            state.name: self._variant(record, specs[state.name], state.weight)
            for state in record.variants
        }

    def _variant(self, endpoint: EndpointRecord, spec: VariantSpec, weight: float) -> Variant:
        tell = self._events.of(endpoint.name, spec.name)
        words = Words(
            container=spec.container.shown,
            log_arn=Names(self._settings.region, self._settings.account).log_group(endpoint.name),
            log_place=str(self._directory / f"{endpoint.name}.{spec.name}.*" / "log"),
        )

        def make_slot(number: int, changed: Callable[[], None], *, patient: bool) -> Slot:
            record = InstanceRecord(
                id=instance_id(endpoint.name, spec.name, endpoint.generation, number),
                endpoint=endpoint.name,
                variant=spec.name,
                generation=endpoint.generation,
                slot=number,
                handle={},
            )
            heard = self._events.of(endpoint.name, spec.name, record.id)

            def make() -> Instance:
                return Instance(self._spec(record.id, spec), spec, self._around, words, heard)

            return Slot(
                record,
                self._state.instances,
                make,
                heard,
                self._turns,
                changed=changed,
                patient=patient,
            )

        return Variant(spec, weight, make_slot, self._settings, words, tell, self._dice)

    def _spec(self, instance_id: str, spec: VariantSpec) -> InstanceSpec:
        return InstanceSpec(
            id=instance_id,
            container=spec.container,
            instance_type=spec.instance_type,
            directory=self._directory / instance_id,
            memory_limit_bytes=self._settings.instance_memory_bytes or None,
        )

    # --- records --------------------------------------------------------------------------------

    def _record(self, live: LiveEndpoint) -> EndpointRecord:
        record = self._state.endpoints.get(live.name)
        assert record is not None
        return record

    async def _set(self, live: LiveEndpoint, status: EndpointStatus, **changes: Any) -> None:
        """Note an endpoint's new status, and what else is new of it."""
        changed = msgspec.structs.replace(
            self._record(live), status=status, modified=time.time(), **changes
        )
        await self._put(changed)
        text = f"{status}: {changed.failure}" if changed.failure else status
        self._events.of(live.name)("endpoint_status", text=text)

    async def _put(self, record: EndpointRecord) -> None:
        """Write a record, sooner or later; nobody else writes it until ``live.change`` is over."""

        async def write() -> None:
            self._state.endpoints.put(record)

        await insist(write, f"the status of endpoint {record.name} cannot be noted")


async def _all_grown(variants: Mapping[str, Variant], states: Iterable[VariantState]) -> None:
    """Return when each has its instances. Raises StartFailed when all have been tried."""
    starts = [variants[state.name].grow(state.instance_count) for state in states]
    for outcome in await asyncio.gather(*starts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
