"""One instance of an endpoint, up: a stub container of a local fleet, a store, a disk.

    async def test(one: Up) -> None:
        one.put("a")
        assert await one.says("a") == "a"

    on_instance(test, tmp_path, room=2)

What is left at the end is looked at every time: tasks, failures of which nobody heard, directories
that are not whole, users and bytes that do not add up.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archives.extraction import ArchiveLimits
from endpoint.errors import ApiError, ModelError
from endpoint.events import Events
from endpoint.fleets.fleet import InstanceSpec
from endpoint.fleets.fleet import Record as Handle
from endpoint.fleets.local import LocalFleet
from endpoint.instances.container_client import Answer, ContainerError, open_session
from endpoint.instances.instance import Instance, Surroundings
from endpoint.instances.models import Models
from endpoint.instances.words import Words
from endpoint.invocation import Invocation
from endpoint.objects.store import ObjectInfo, ObjectStore, Room
from endpoint.objects.stores import Stores
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, Mode, Routing, VariantSpec
from tests.endpoint.containers.running import COMMAND, Stub, at, environment
from tests.endpoint.objects.archive_parts import tar_gz_of

SECONDS = 60.0
WORDS = Words("primary", "arn:log", "the log")

Test = Callable[["Up"], Awaitable[None]]


class Gate:
    """A store whose downloads wait while it is closed, and that counts what is asked of it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.open = asyncio.Event()
        self.open.set()
        self.answers = asyncio.Event()  # cleared: nobody learns anything of an object
        self.answers.set()
        self.began = asyncio.Event()
        self.heads: list[str] = []
        self.downloads: list[str] = []
        self.before_download: Callable[[], None] = lambda: None
        self.close = store.close
        self.has_prefix = store.has_prefix

    async def head(self, url: str, *, patient: bool = True) -> ObjectInfo:
        self.heads.append(url)
        await self.answers.wait()
        return await self._store.head(url, patient=patient)

    async def extract(
        self, info: ObjectInfo, target: Path, limits: ArchiveLimits, room: Room
    ) -> int:
        self.downloads.append(info.url)
        self.began.set()
        await self.open.wait()
        self.before_download()
        return await self._store.extract(info, target, limits, room)


@dataclass
class Up:
    """An instance and what is around it."""

    instance: Instance
    stub: Stub
    store: Gate
    folder: Path
    events: Events
    handle: Handle
    ended: asyncio.Task[str]  # why it is to be replaced
    requests: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def models(self) -> Models:
        assert self.instance.models is not None
        return self.instance.models

    # --- the store ------------------------------------------------------------------------------

    def put(self, name: str, says: str | None = None, *, padding: int = 0) -> None:
        """An archive whose model says its name, or something else; it is there whole at once."""
        files = {"says": (name if says is None else says).encode()}
        if padding:
            files["padding"] = b"p" * padding
        self.put_bytes(name, tar_gz_of(files))

    def put_bytes(self, name: str, data: bytes) -> None:
        (self.folder / ".new").write_bytes(data)
        (self.folder / ".new").replace(self.folder / name)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()

    # --- requests -------------------------------------------------------------------------------

    async def invoke(self, name: str | None, body: str = "", seconds: float = SECONDS) -> Answer:
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.instance.invoke(
            Invocation("e", "1", (), body.encode(), target_model=name), deadline
        )

    async def says(self, name: str, seconds: float = SECONDS) -> str:
        """What a model says; that the body is what was sent is looked at."""
        answer = json.loads((await self.invoke(name, name, seconds)).body)
        assert answer["body"] == name
        return str(answer["says"])

    async def fails(self, name: str, seconds: float = SECONDS) -> ApiError:
        """The error that an invoke ends with."""
        try:
            answer = await self.invoke(name, seconds=seconds)
        except ApiError as error:
            return error
        raise AssertionError(f"{name} answered {answer.body!r}")

    async def model_error(self, name: str, seconds: float = SECONDS) -> ModelError:
        error = await self.fails(name, seconds)
        assert isinstance(error, ModelError), repr(error)
        return error

    def begin(self, name: str, seconds: float = SECONDS) -> asyncio.Task[str]:
        """A request that runs beside the test."""
        task = asyncio.create_task(self.says(name, seconds))
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)
        return task

    # --- what is to be seen ---------------------------------------------------------------------

    async def saw(self, on: str, count: int = 1) -> None:
        """Return once the container has seen so many."""
        await asyncio.to_thread(self.stub.wait_for, on, count)

    def count(self, on: str) -> int:
        """How many the container has seen."""
        return len(self.stub.seen(on))

    def targets(self) -> dict[str, str]:
        """Names of models by the ids that the container was told."""
        return {
            seen.model: seen.header("X-Amzn-SageMaker-Target-Model") or ""
            for seen in self.stub.seen("load")
        }

    def loaded(self) -> list[str]:
        """The models that really are in the container, sorted."""
        targets = self.targets()
        return sorted(targets[model] for model in self.stub.loaded())

    def states(self) -> dict[str, str]:
        """How far each is, as ``GET /status`` says."""
        return {one["target"]: one["state"] for one in self.models.summary(disk=True)["models"]}

    def on_disk(self) -> list[str]:
        return sorted(entry["target"] for entry in _entries(self.instance.spec.models))

    def told(self, kind: str) -> list[str]:
        """The models of all events of a kind."""
        return [event.target for event in self.events.since(0) if event.kind == kind]

    async def until(self, seen: Callable[[], bool]) -> None:
        """Return when something is so of which nobody is told."""
        async with asyncio.timeout(SECONDS):
            while True:
                if seen():
                    return
                await asyncio.sleep(0.01)


def _entries(models: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in models.glob("*/entry.json")]


@asynccontextmanager
async def up(
    place: Path,
    *,
    stub: Mapping[str, Any] | None = None,
    keep: bool = True,
    handle: Handle | None = None,
    leave: bool = False,
    **settings: Any,
) -> AsyncIterator[Up]:
    """An instance that serves ``place/store``; with ``leave`` its container goes on at the end."""
    settings = {"connect_timeout_seconds": SECONDS, **settings}  # also on a slow machine
    chosen = EndpointSettings(local_command=COMMAND, region="eu-west-1", **settings)
    (place / "store").mkdir(exist_ok=True)
    fleet = LocalFleet(chosen, os.environ)
    definition = ContainerSpec(
        image="stub",
        mode=Mode.MULTI,
        model_data_url=f"file://{place}/store/",
        environment=environment(**(stub or {})),
        keeps_models=keep,
    )
    variant = VariantSpec(
        "v", "m", definition, "ml.m5.large", 1, 1.0, None, None, None, Routing.LEAST_OUTSTANDING
    )
    events = Events()
    async with open_session() as session:
        store = Gate(Stores(chosen))
        around = Surroundings(chosen, fleet, store, session)
        spec = InstanceSpec(
            "i-1",
            definition,
            "ml.m5.large",
            place / "instance",
            chosen.instance_memory_bytes or None,
        )
        instance = Instance(spec, variant, around, WORDS, events.of("e", "v", "i-1"))
        try:
            kept = await instance.start(handle)
            await instance.until_healthy()
            watch = asyncio.create_task(instance.lost())
            one = Up(instance, at(instance.url), store, place / "store", events, kept, watch)
            yield one
            await _at_the_end(one)
        finally:
            await (instance.let_go() if leave else instance.stop(at_once=True))
            await store.close()
            await fleet.close()


async def _at_the_end(one: Up) -> None:
    """Nobody uses anything any more, and sums are right."""
    if one.requests:
        await asyncio.wait(one.requests)
    one.ended.cancel()
    await asyncio.wait({one.ended})
    assert one.instance.requests == 0
    if one.instance.models is not None:
        assert [each.target for each in one.models.residents() if each.users or each.running] == []


def on_instance(test: Test, place: Path, **options: Any) -> None:
    """Run a test on an instance, options as for ``up``, and look at what it leaves."""
    troubles: list[Mapping[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, trouble: troubles.append(trouble)
        )
        async with up(place, **options) as one:
            await test(one)
        for _ in range(3):  # what was cancelled last ends
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        gc.collect()  # failures of which nobody heard are told of now

    asyncio.run(run())
    assert not troubles, troubles
    _whole(place / "instance" / "models")


def _whole(models: Path) -> None:
    """No directory is left that is only half there."""
    for directory in models.iterdir():
        assert (directory / "entry.json").is_file(), directory
        assert (directory / "model" / "says").is_file(), directory


async def failure(request: Awaitable[Any]) -> ApiError | ContainerError:
    """What a request that has begun ends with."""
    try:
        answer = await request
    except (ApiError, ContainerError) as error:
        return error
    raise AssertionError(f"it answered {answer!r}")
