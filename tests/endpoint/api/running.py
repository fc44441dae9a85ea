"""A real ApiServer on a port of its own, in a thread; behind it a Backend that runs nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import boto3
import msgspec
import uvloop
from botocore.config import Config

from endpoint.api.server import ApiServer
from endpoint.errors import ResourceLimitExceeded, ValidationException
from endpoint.invocation import Invocation, Reply
from endpoint.metrics.measures import Measures
from endpoint.records import EndpointRecord, EndpointStatus, VariantState
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, VariantSpec, variants_of
from endpoint.state import State
from endpoint.variant_summary import VariantSummary
from tests.endpoint.api.shapes import check_response

T = TypeVar("T")

# Clients are made faster where the service's model was read before.
SESSION = boto3.Session(
    aws_access_key_id="AKEXAMPLE", aws_secret_access_key="secret", region_name="us-east-1"
)
MOST_INSTANCES = 20


class Backend:
    """Endpoints that change at once, unless ``hold``; ``answers`` are what invokes get, in turn."""

    def __init__(self, state: State, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._time = clock
        self.clear()

    def clear(self) -> None:
        self.hold = False
        self.answers: list[Reply | Exception] = []
        self.invocations: list[Invocation] = []
        self.began = threading.Event()
        self.ended: list[str] = []
        self.over = threading.Event()
        self.release: asyncio.Event | None = None
        self.checked: list[ContainerSpec] = []
        self.since: list[int] = []
        self.with_disk: list[bool] = []
        self.measures = Measures(self._time)

    async def check_container(self, container: ContainerSpec) -> None:
        self.checked.append(container)
        await asyncio.sleep(0)
        if "missing" in container.image:
            raise ValidationException(f"There is no image {container.image}.")

    def create(self, record: EndpointRecord) -> None:
        self._count(record.variants)
        snapshot = self._snapshot(record.config_name)
        self._state.endpoints.put(msgspec.structs.replace(record, snapshot=snapshot))
        self._soon(record.name, status=EndpointStatus.IN_SERVICE)

    def update(self, name: str, config_name: str, variants: Sequence[VariantState]) -> None:
        self._count(variants)
        self._put(name, status=EndpointStatus.UPDATING, next_config_name=config_name)
        self._soon(
            name,
            status=EndpointStatus.IN_SERVICE,
            config_name=config_name,
            next_config_name="",
            snapshot=self._snapshot(config_name),
            variants=tuple(variants),
        )

    def set_capacities(self, name: str, variants: Sequence[VariantState]) -> None:
        self._count(variants)
        self._put(name, status=EndpointStatus.UPDATING)
        self._soon(name, status=EndpointStatus.IN_SERVICE, variants=tuple(variants))

    def delete(self, name: str) -> None:
        self._put(name, status=EndpointStatus.DELETING)
        if not self.hold:
            asyncio.get_running_loop().call_soon(self._state.endpoints.remove, name)

    def variants(self, name: str) -> list[VariantSummary]:
        record = self._state.endpoints.get(name)
        assert record is not None
        if record.status == EndpointStatus.CREATING:
            return []
        specs = {spec.name: spec for spec in variants_of(record.snapshot)}
        return [self._summary(variant, specs[variant.name]) for variant in record.variants]

    async def invoke(self, invocation: Invocation) -> Reply:
        self.invocations.append(invocation)
        self.began.set()
        try:
            if self.release is not None:
                await self.release.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            self.over.set()
            raise
        self.ended.append("answered")
        answer = self.answers.pop(0) if self.answers else Reply(200, (), b"ok", "AllTraffic")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def metrics(self, *, models: bool) -> bytes:
        return b"models 1\n" if models else b"models 0\n"

    async def status(self, since: int, *, disk: bool) -> dict[str, Any]:
        self.since.append(since)
        self.with_disk.append(disk)
        return {"endpoints": [], "events": []}

    async def measure(self) -> None:
        pass

    async def seen(self, since: int, *, disk: bool = False) -> dict[str, Any]:
        return {"endpoints": [], "events": []}

    def _snapshot(self, config_name: str) -> dict[str, Any]:
        config = self._state.configs.get(config_name)
        assert config is not None
        names = {variant["ModelName"] for variant in config.request["ProductionVariants"]}
        models = {name: self._state.models.get(name) for name in names}
        found = {name: model.request for name, model in models.items() if model is not None}
        return {"config": config.request, "models": found}

    def _summary(self, variant: VariantState, spec: VariantSpec) -> VariantSummary:
        return VariantSummary(
            spec=spec,
            current_weight=variant.weight,
            desired_weight=variant.weight,
            current_instance_count=variant.instance_count,
            desired_instance_count=variant.instance_count,
            status="Updating" if self.hold else "",
            status_since=1.0,
        )

    def _count(self, variants: Sequence[VariantState]) -> None:
        if sum(variant.instance_count for variant in variants) > MOST_INSTANCES:
            raise ResourceLimitExceeded(f"There are {MOST_INSTANCES} instances at most.")

    def _put(self, name: str, **members: Any) -> None:
        record = self._state.endpoints.get(name)
        assert record is not None
        self._state.endpoints.put(msgspec.structs.replace(record, **members))

    def _soon(self, name: str, **members: Any) -> None:
        if not self.hold:
            asyncio.get_running_loop().call_soon(lambda: self._put(name, **members))


class RunningApi:
    """The server and what tests want of it. ``close`` ends it."""

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] | None = None,
        **settings: Any,
    ) -> None:
        self._settings = replace(EndpointSettings(), **{"port": 0, **settings})
        self._clock = {} if clock is None else {"clock": clock}
        self._directory = directory
        self._clients: list[Any] = []
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),))
        self._thread.start()
        self.port = self._ready.result(60)
        self.url = f"http://127.0.0.1:{self.port}"

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.state = State(self._directory / "state.db")
        try:
            self.backend = Backend(self.state, **self._clock)
            self.server = ApiServer(self._settings, self.state, self.backend, **self._clock)
            self._ready.set_result(await self.server.start())
            await self._end.wait()
            await self.server.stop(1.0)
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            self.state.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the server's thread."""

        async def do() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(60)

    def clear(self) -> None:
        """Forget everything, for the next test."""
        self.call(self._forget)

    def _forget(self) -> None:
        self.backend.clear()
        for table in (self.state.models, self.state.configs, self.state.endpoints):
            for record in table.all():
                table.remove(record.name)

    def client(
        self, service: str, retries: dict[str, Any] | None = None, key: str = "AKEXAMPLE"
    ) -> Any:
        """A client whose answers are all checked; it tries once if nothing else is said."""
        client = SESSION.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key="secret",
            config=Config(retries=retries or {"total_max_attempts": 1}, read_timeout=60),
        )
        client.meta.events.register("before-parse.*.*", check_response)
        self._clients.append(client)
        return client
