"""All endpoints of this process: the ``Backend`` of the APIs, and what a restart brings back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from endpoint.errors import ServiceUnavailable, ValidationError, ValidationException
from endpoint.events import Events
from endpoint.fleets.fleet import Fleet, FleetError
from endpoint.instances.container_client import open_session
from endpoint.instances.instance import Instance, Surroundings
from endpoint.invocation import Invocation, Reply
from endpoint.live.deployments import Deployments
from endpoint.live.endpoint import LiveEndpoint
from endpoint.live.limits import check_instances, total
from endpoint.metrics import prometheus, summary
from endpoint.metrics.measures import Measures, Of
from endpoint.metrics.prometheus import InstanceNow
from endpoint.metrics.sampling import Sampling, values
from endpoint.objects.store import ObjectStore, StoreError
from endpoint.records import EndpointRecord, EndpointStatus, VariantState, expected_instances
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, Mode
from endpoint.state import State
from endpoint.variant_summary import VariantSummary

# GET /status waits so long for the memory of instances.
_MEASURE_SECONDS = 2.0


class Platform:
    """The endpoints. To be made on the loop that it runs on; ``start`` comes first."""

    def __init__(
        self,
        settings: EndpointSettings,
        state: State,
        fleet: Fleet,
        store: ObjectStore,
        dice: Callable[[], float] = random.random,
        measures: Measures | None = None,
    ) -> None:
        """``dice`` decides where weights or a routing leave a choice: from [0, 1) each time."""
        self.measures = measures or Measures()
        self._settings = settings
        self._state = state
        self._fleet = fleet
        self._store = store
        self._events = Events()
        self._events.listen(self.measures.happened)
        self._session = open_session()
        around = Surroundings(settings, fleet, store, self._session)
        self._dice = dice
        self._deployments = Deployments(around, state, self._events, dice)
        self._live: dict[str, LiveEndpoint] = {}
        self.sampling = Sampling(self.measures, self._serving, self.measure)

    # --- its life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on where an earlier life of this process ended, whatever it was doing."""
        records = self._state.endpoints.all()
        for record in records:
            self._resume(record)
        await self._deployments.halt_strays(set().union(*map(expected_instances, records)))
        self.sampling.start()

    async def close(self, *, stop_instances: bool) -> None:
        """End. Instances are stopped, or left for another life of this process to find."""
        await self.sampling.close()
        for live in self._live.values():
            if live.change is not None:
                live.change.cancel()
        changes = [live.change for live in self._live.values() if live.change is not None]
        await asyncio.gather(*changes, return_exceptions=True)
        variants = [one for live in self._live.values() for one in live.all()]
        ways = [one.halt() if stop_instances else one.let_go() for one in variants]
        await asyncio.gather(*ways)
        await self._session.close()

    def _resume(self, record: EndpointRecord) -> None:
        live = self._live[record.name] = LiveEndpoint(record.name, self._dice)
        match record.status:
            case EndpointStatus.FAILED:
                pass
            case EndpointStatus.DELETING:
                self._deployments.delete(live, lambda: self._forget(record.name))
            case _:
                self._deployments.resume(live)

    # --- what the APIs ask ----------------------------------------------------------------------

    async def check_container(self, container: ContainerSpec) -> None:
        """Raise ValidationException unless image and models could be served."""
        try:
            await self._fleet.check(container)
            if container.mode is Mode.MULTI:
                await self._store.has_prefix(container.model_data_url)
            elif container.model_data_url:
                await self._store.head(container.model_data_url)
        except FleetError as error:
            raise ValidationException(str(error)) from error
        except StoreError as error:
            raise ValidationException(
                f"Could not access model data at {container.model_data_url}. Please ensure that "
                "the role exists and that its policy allows s3:GetObject and s3:ListBucket, and "
                f"that the location is right. ({error})"
            ) from error

    def create(self, record: EndpointRecord) -> None:
        """Store the record, which is Creating, and start its instances."""
        self._check_instances(total(record.variants))
        snapshot = self._snapshot(record.config_name)
        self._state.endpoints.put(msgspec.structs.replace(record, snapshot=snapshot))
        live = self._live[record.name] = LiveEndpoint(record.name, self._dice)
        self._deployments.create(live)

    def update(self, name: str, config_name: str, variants: Sequence[VariantState]) -> None:
        """Bring up the variants of another configuration, then let the old ones go."""
        self._check_instances(total(variants))
        self._note(
            name,
            status=EndpointStatus.UPDATING,
            next_config_name=config_name,
            next_snapshot=self._snapshot(config_name),
            next_variants=tuple(variants),
            failure="",
        )
        self._deployments.update(self._live[name])

    def set_capacities(self, name: str, variants: Sequence[VariantState]) -> None:
        """Change weights and instance counts; all variants of the endpoint are given."""
        record = self._state.endpoints.get(name)
        assert record is not None
        self._check_instances(total(variants) - total(record.variants))
        self._note(name, status=EndpointStatus.UPDATING, next_variants=tuple(variants), failure="")
        self._deployments.resize(self._live[name])

    def delete(self, name: str) -> None:
        """Stop its instances, then remove the record."""
        self._note(name, status=EndpointStatus.DELETING)
        self._deployments.delete(self._live[name], lambda: self._forget(name))

    def variants(self, name: str) -> list[VariantSummary]:
        """The variants as they are now; [] before its instances are there."""
        live = self._live.get(name)
        return [] if live is None else [one.described() for one in live.shown()]

    async def invoke(self, invocation: Invocation) -> Reply:
        """Raises ApiError. Its endpoint, variant and model need not be there."""
        deadline = asyncio.get_running_loop().time() + self._settings.invoke_timeout_seconds
        live = self._live.get(invocation.endpoint)
        if live is None or not live.variants:
            raise self._not_in_service(invocation.endpoint)
        try:
            return await live.invoke(invocation, deadline)
        except ServiceUnavailable:
            if live.variants:
                raise
            raise self._not_in_service(invocation.endpoint) from None  # it was deleted meanwhile

    async def status(self, since: int, *, disk: bool) -> dict[str, Any]:
        """Everything that runs, for people: endpoints, instances, models, events after a number.

        Of models that are only on a disk there is a count, or with ``disk`` each of them.
        """
        await self.measure()
        return await self.seen(since, disk=disk)

    async def metrics(self, *, models: bool) -> bytes:
        """All metrics as Prometheus text, with or without those of each model."""
        await self.measure()
        instances = [
            InstanceNow(of, instance.spec.id, dict(values(instance)), instance.requests)
            for of, instance in self._serving()
        ]
        return await prometheus.text(self.measures, instances, models=models)

    async def measure(self) -> None:
        """Have the memory of instances be that of now, if that does not take long."""
        with contextlib.suppress(TimeoutError):  # what was measured before is better than nothing
            async with asyncio.timeout(_MEASURE_SECONDS):
                await self._fleet.measure()

    async def seen(self, since: int, *, disk: bool = False) -> dict[str, Any]:
        """What ``status`` tells, with the memory that was measured last."""
        return {
            "time": time.time(),
            "endpoints": [
                await self._described(record, disk=disk) for record in self._state.endpoints.all()
            ],
            "events": self._events.since(since),
        }

    async def _described(self, record: EndpointRecord, *, disk: bool) -> dict[str, Any]:
        """An endpoint for ``GET /status``, with the figures of each variant."""
        live = self._live.get(record.name)
        lists = {} if live is None else live.summary(disk=disk)
        for variant in (one for ones in lists.values() for one in ones):
            of = Of(record.name, variant["name"])
            variant["metrics"] = summary.of_variant(self.measures, of)
            variant["models"] = await summary.of_models(self.measures, of)
        return {"name": record.name, "status": record.status, **lists}

    # --- parts ----------------------------------------------------------------------------------

    def _serving(self) -> Iterator[tuple[Of, Instance]]:
        """All instances that requests may be sent to."""
        for live in self._live.values():
            for variant in live.all():
                of = Of(live.name, variant.spec.name)
                yield from ((of, instance) for instance in variant.serving())

    def _check_instances(self, more: int) -> None:
        check_instances(self._state.endpoints.all(), more, self._settings.max_instances)

    def _not_in_service(self, name: str) -> ValidationError:
        record = self._state.endpoints.get(name)
        if record is None:
            return ValidationError(
                f"Endpoint {name} of account {self._settings.account} not found."
            )
        return ValidationError(
            f"Endpoint {name} of account {self._settings.account} is not in service: its status "
            f"is {record.status}{'. ' + record.failure if record.failure else ''}"
        )

    def _snapshot(self, config_name: str) -> dict[str, Any]:
        """A configuration and its models as they are now. Raises ValidationException."""
        config = self._state.configs.get(config_name)
        if config is None:
            raise ValidationException(f'Could not find endpoint configuration "{config_name}".')
        models = {}
        for variant in config.request["ProductionVariants"]:
            model = self._state.models.get(variant["ModelName"])
            if model is None:
                raise ValidationException(f'Could not find model "{variant["ModelName"]}".')
            models[model.name] = model.request
        return {"config": config.request, "models": models}

    def _note(self, name: str, **changes: Any) -> None:
        record = self._state.endpoints.get(name)
        assert record is not None
        self._state.endpoints.put(msgspec.structs.replace(record, modified=time.time(), **changes))

    def _forget(self, name: str) -> None:
        self._live.pop(name, None)
        self.measures.models.forget(name)
