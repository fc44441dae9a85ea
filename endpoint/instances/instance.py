"""One instance: a running container, the disk beside it, and the models in it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import aiohttp

from archives.errors import ExtractionError
from endpoint.events import Record
from endpoint.fleets.fleet import Container, Fleet, FleetError, InstanceSpec
from endpoint.fleets.fleet import Record as Handle
from endpoint.instances.container_client import (
    Answer,
    BadAnswer,
    ContainerClient,
    ContainerTimeout,
)
from endpoint.instances.exchange import Exchange
from endpoint.instances.health import NotHealthy, Prober, wait_until_healthy
from endpoint.instances.memory import Memory
from endpoint.instances.memory_told import MemoryTold
from endpoint.instances.model_files import ModelFiles
from endpoint.instances.models import Models
from endpoint.instances.residents import Residents
from endpoint.instances.words import Words
from endpoint.invocation import Invocation
from endpoint.metrics.gpus import GpuUse
from endpoint.objects.store import ObjectStore, StoreError
from endpoint.objects.stores import archive_limits
from endpoint.routing.places import Place, Where
from endpoint.settings import FOLLOW, GIB, EndpointSettings
from endpoint.specs import Mode, VariantSpec

# A redirect is no result either.
_FIRST_ERROR = 300
_DEFAULT_DISK_BYTES = 30 * GIB


@dataclass(frozen=True, slots=True)
class Use:
    """What an instance used of processors and GPUs when that was last sampled.

    ``cpu_percent`` is a mean since the time before that, 100 for each core; None: it is not known.
    """

    cpu_percent: float | None = None
    gpus: tuple[GpuUse, ...] = ()


class State(Enum):
    """What an instance is good for. The values are words of ``GET /status``."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"  # finishes what it has
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all instances of an endpoint's process share."""

    settings: EndpointSettings
    fleet: Fleet
    store: ObjectStore
    session: aiohttp.ClientSession


class Instance:
    """A container and its models. Made, ``start``ed, then used until ``lost`` or ``stop``ped."""

    def __init__(
        self,
        spec: InstanceSpec,
        variant: VariantSpec,
        around: Surroundings,
        words: Words,
        record: Record,
    ) -> None:
        self.spec = spec
        self.state = State.STARTING
        self.requests = 0
        self.suspect = False  # the last look at its health failed: others are asked first
        self._variant = variant
        self._around = around
        self._settings = _settings_of(variant, around.settings)
        self._words = words
        self._record = record
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._container: Container | None = None
        self._found = False  # of an earlier life
        self._client: ContainerClient
        self._exchange: Exchange
        self._ended: asyncio.Task[str]
        self.models: Models | None = None
        self.use = Use()
        self._told: MemoryTold | None = None

    # --- its life -------------------------------------------------------------------------------

    async def start(self, handle: Handle | None) -> Handle:
        """Bring the container up, or find the one that ``handle`` is of; returns its handle.

        The container runs then; ``until_healthy`` is next. Raises FleetError.
        """
        fleet = self._around.fleet
        if handle is not None:
            await self._hold(fleet.adopt(self.spec, handle))
        self._found = self._container is not None
        if self._container is None and self._variant.container.mode is Mode.SINGLE:
            await self._fetch_single()
        if self._container is None:
            await self._hold(fleet.start(self.spec))
        assert self._container is not None
        return self._container.record

    async def until_healthy(self) -> None:
        """Return when it can serve. Raises NotHealthy with the end of the container's output."""
        assert self._container is not None
        self._client = self._new_client(self._container)
        begun = time.monotonic()
        multi = self._variant.container.mode is Mode.MULTI
        try:
            listed = await wait_until_healthy(
                self._client,
                multi_model=multi,
                timeout_seconds=self._patience_seconds,
                ended=self._ended,
                who=f"The {self._words.container} container for production variant "
                f"{self._variant.name}",
            )
        except NotHealthy as error:
            words = await self._container.last_words()
            raise NotHealthy(f"{error}\n{words}".rstrip()) from None
        if multi:
            self.models = self._models_of(self._container)
            await self.models.open(listed)
            self._told = self._told_of(self.models)
        self._exchange = Exchange(self._client, self.models)
        self.state = State.SERVING
        self._record("instance_started", seconds=time.monotonic() - begun, text=self._client.url)

    @property
    def _patience_seconds(self) -> float:
        """For a container to become healthy; one that was found running should be so already."""
        if self._found:
            return self._settings.unhealthy_probes * self._settings.probe_interval_seconds
        return self._variant.start_timeout_seconds or self._settings.start_timeout_seconds

    async def lost(self) -> str:
        """Return why the instance is to be replaced, when it is."""
        probing = asyncio.create_task(
            Prober(
                self._client,
                self._settings,
                multi_model=self.models is not None,
                on_listed=self._on_listed,
                on_failed=self._on_failed,
            ).run()
        )
        asking = None if self._told is None else asyncio.create_task(self._told.run())
        try:
            done, _ = await asyncio.wait(
                {probing, self._ended}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            probing.cancel()
            if asking is not None:
                asking.cancel()
        reason = done.pop().result()
        self.state = State.LOST
        self._record("instance_lost", text=reason)
        return reason

    def drain(self) -> None:
        """Take no more requests."""
        self.state = State.LEAVING

    async def drained(self, timeout_seconds: float) -> None:
        """Return when the requests that it has are done, or after the timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._quiet.wait()

    async def stop(self, *, at_once: bool = False) -> None:
        """Stop the container."""
        await self.let_go()
        if self._container is not None:
            timeout = 0.0 if at_once else self._settings.stop_timeout_seconds
            await self._container.stop(timeout)

    async def let_go(self) -> None:
        """Give up all that is under way; the container goes on."""
        if self.state is not State.LOST:
            self.state = State.LEAVING
        if self.models is not None:
            await self.models.close()
            self.models = None
        if self._container is not None:
            self._ended.cancel()

    # --- requests -------------------------------------------------------------------------------

    async def invoke(self, invocation: Invocation, deadline: float) -> Answer:
        """The container's answer, which is no error; ``deadline`` is by the loop's clock.

        Raises ApiError; ContainerUnreachable or ContainerLost when the instance has not done it.
        """
        self.requests += 1
        self._quiet.clear()
        try:
            answer = await self._exchange.invoke(invocation, deadline)
        except ContainerTimeout:
            raise self._words.timed_out("the model did not answer in time") from None
        except BadAnswer as error:
            raise self._words.not_usable(str(error), error.status) from None
        finally:
            self.requests -= 1
            if self.requests == 0:
                self._quiet.set()
        if answer.status >= _FIRST_ERROR:
            raise self._words.answered(answer)
        return answer

    # --- for routing and for people -------------------------------------------------------------

    def where(self, target: str) -> Where:
        """How near a model is to answering here."""
        assert self.models is not None
        return self.models.where(target)

    def place(self, target: str, *, weighed: bool = True) -> Place:
        """This instance, as a request for that model sees it.

        What is in memory is added up only if it is to be ``weighed``: with many models that takes
        long, and among instances that have the model it makes no difference.
        """
        assert self.models is not None
        return Place(
            instance=self.spec.id,
            where=self.models.where(target),
            model_requests=self.models.requests(target),
            requests=self.requests,
            loaded_bytes=self.models.loaded_bytes if weighed else 0,
            free_disk_bytes=self.models.free_disk_bytes,
        )

    @property
    def container(self) -> Container | None:
        """What it runs in; None while there is none."""
        return self._container

    @property
    def url(self) -> str:
        """Where its container listens; "" while there is none."""
        return "" if self._container is None else self._container.url

    def summary(self, *, disk: bool) -> dict[str, Any]:
        """This instance for ``GET /status``."""
        use = None if self._container is None else self._container.memory()
        return {
            "id": self.spec.id,
            "url": self.url,
            "handle": {} if self._container is None else dict(self._container.record),
            "state": self.state.value,
            "requests": self.requests,
            "memory": None if use is None else {"used": use.used, "limit": use.limit},
            "cpu_percent": self.use.cpu_percent,
            "gpus": self.use.gpus,
            "loaded": 0 if self.models is None else self.models.loaded,
            **({} if self.models is None else self.models.summary(disk=disk, held=self._held)),
        }

    @property
    def _held(self) -> Mapping[str, int]:
        return {} if self._told is None else self._told.held

    # --- its parts ------------------------------------------------------------------------------

    def _on_failed(self) -> None:
        self.suspect = True

    def _on_listed(self, listed: dict[str, str], asked_at: float) -> None:
        self.suspect = False
        if self.models is not None:
            self.models.listed(listed, asked_at)

    def _new_client(self, container: Container) -> ContainerClient:
        return ContainerClient(
            self._around.session,
            container.url,
            connect_timeout_seconds=self._settings.connect_timeout_seconds,
            ping_timeout_seconds=self._settings.ping_timeout_seconds,
            max_body_bytes=self._settings.max_body_bytes,
        )

    def _models_of(self, container: Container) -> Models:
        definition = self._variant.container
        settings = self._settings
        residents = Residents(definition.model_data_url)
        memory = Memory(self._client, container, residents, settings, self._words, self._record)
        budget = settings.disk_bytes or self._variant.volume_bytes or _DEFAULT_DISK_BYTES
        files = ModelFiles(
            container.models,
            budget,
            residents,
            memory,
            self._around.store,
            archive_limits(settings),
            self._record,
            check_seconds=(
                settings.object_check_seconds if settings.object_changes == FOLLOW else None
            ),
        )
        return Models(
            residents,
            memory,
            files,
            settings,
            self._words,
            self._record,
            keep=definition.keeps_models,
        )

    def _told_of(self, models: Models) -> MemoryTold:
        return MemoryTold(
            self._client,
            models.names,
            self._record,
            pause_seconds=self._settings.probe_interval_seconds,
            found=self._found,
        )

    async def _hold(self, getting: Coroutine[Any, Any, Container | None]) -> None:
        """Have the container. Who is cancelled has it all the same, so that it can be stopped."""
        task = asyncio.create_task(getting)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if task.exception() is None:
                self._keep(task.result())
            raise
        self._keep(task.result())

    def _keep(self, container: Container | None) -> None:
        if container is not None:
            self._container = container
            self._ended = asyncio.create_task(container.ended())

    async def _fetch_single(self) -> None:
        """Put the one model of single-model mode where the container will look for it."""
        url = self._variant.container.model_data_url
        target = self.spec.single_model
        await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        if not url:
            return
        try:
            info = await self._around.store.head(url)
            await self._around.store.extract(
                info, target, archive_limits(self._settings), lambda _: None
            )
        except (StoreError, ExtractionError) as error:
            raise FleetError(self._words.of_files(error, url).message) from error


def _settings_of(variant: VariantSpec, settings: EndpointSettings) -> EndpointSettings:
    """The endpoint's settings, with what the variant says otherwise."""
    own = variant.load_timeout_seconds
    return settings if own is None else replace(settings, load_timeout_seconds=own)
