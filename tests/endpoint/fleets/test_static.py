"""Containers that somebody else runs, as instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from endpoint.events import Events
from endpoint.fleets.fleet import FleetError, ImageError, Record
from endpoint.fleets.static import StaticFleet
from endpoint.instances.container_client import open_session
from endpoint.instances.instance import Instance, Surroundings
from endpoint.instances.words import Words
from endpoint.objects.stores import Stores
from endpoint.settings import EndpointSettings, SettingsError
from endpoint.specs import Mode, Routing, VariantSpec
from tests.endpoint.containers.running import Stub, started

from .parts import spec

GONE = "http://127.0.0.1:1"
FIRST, SECOND = "http://10.0.0.1:8080", "https://[::1]:9090/under/"


def fleet(tmp_path: Path) -> StaticFleet:
    """Two: one sees our files as they are, the other has them mounted."""
    instances = (f"{FIRST}={tmp_path}/a", f"{SECOND}={tmp_path}/b=/opt/ml/models/")
    return StaticFleet(EndpointSettings(fleet="static", static_instances=instances))


def test_each_serves_one_instance_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        static = fleet(tmp_path)
        first = await static.start(spec(tmp_path, "one"))
        second = await static.start(spec(tmp_path, "two"))
        assert (first.url, second.url) == (FIRST, SECOND.rstrip("/"))
        with pytest.raises(FleetError, match="all 2 of static_instances"):
            await static.start(spec(tmp_path, "three"))
        await first.stop(30)
        assert (await static.start(spec(tmp_path, "three"))).url == FIRST
        await static.close()

    asyncio.run(main())


def test_models_go_where_the_container_sees_them(tmp_path: Path) -> None:
    async def main() -> None:
        static = fleet(tmp_path)
        first = await static.start(spec(tmp_path, "one"))
        second = await static.start(spec(tmp_path, "two"))
        assert first.models == tmp_path / "a"
        assert first.models.is_dir()
        assert first.path(first.models / "x" / "model") == f"{tmp_path}/a/x/model"
        assert second.path(second.models / "x" / "model") == "/opt/ml/models/x/model"

    asyncio.run(main())


def checked(tmp_path: Path, *urls: str, mode: Mode = Mode.MULTI) -> None:
    """CreateModel's check, of containers at these URLs."""
    instances = tuple(f"{url}={tmp_path}/{number}" for number, url in enumerate(urls))
    static = StaticFleet(EndpointSettings(fleet="static", static_instances=instances))
    asyncio.run(static.check(spec(tmp_path, mode=mode).container))


def test_one_that_serves_many_models_is_enough(tmp_path: Path) -> None:
    with started() as stub:
        checked(tmp_path, GONE, stub.url)


def test_when_none_answers_it_is_told_of_each(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=rf"none of static_instances .*{GONE}: .*{GONE}/x: "):
        checked(tmp_path, GONE, f"{GONE}/x")


def test_a_container_of_one_model_is_not_taken_for_one_of_many(tmp_path: Path) -> None:
    with started(multi_model=False) as stub:
        checked(tmp_path, stub.url, mode=Mode.SINGLE)
        with pytest.raises(ImageError, match=r"can serve many models: .*GET /models"):
            checked(tmp_path, stub.url)


def test_models_that_their_owner_has_loaded_are_left_alone(tmp_path: Path) -> None:
    async def main(stub: Stub) -> None:
        settings = EndpointSettings(
            fleet="static",
            static_instances=(f"{stub.url}={tmp_path}/models",),
            probe_interval_seconds=0.02,
        )
        for handle in (None, {"url": stub.url}):  # a new instance, and a take-over
            async with instance_of(StaticFleet(settings), settings, tmp_path, handle) as lost:
                seen = len(await asyncio.to_thread(stub.seen, "list"))
                await asyncio.to_thread(stub.wait_for, "list", seen + 5)
                assert not lost.done()
        assert await asyncio.to_thread(stub.loaded) == ["the-owners"]
        assert await asyncio.to_thread(stub.seen, "unload") == []

    with started() as stub:
        order = {"model_name": "the-owners", "url": str(tmp_path)}
        httpx.post(f"{stub.url}/models", json=order, trust_env=False).raise_for_status()
        asyncio.run(main(stub))


@asynccontextmanager
async def instance_of(
    static: StaticFleet,
    settings: EndpointSettings,
    directory: Path,
    handle: Record | None,
) -> AsyncIterator[asyncio.Task[str]]:
    """An instance that serves from an empty store, and the task that tells why it is lost."""
    wanted = spec(directory)
    store = Stores(settings)
    variant = VariantSpec(
        "v", "m", wanted.container, "local", 1, 1.0, None, None, None, Routing.LEAST_OUTSTANDING
    )
    async with open_session() as session:
        around = Surroundings(settings, static, store, session)
        words = Words("primary", "arn:log", "the log")
        instance = Instance(wanted, variant, around, words, Events().of("e", "v", "i"))
        await instance.start(handle)
        await instance.until_healthy()
        lost = asyncio.create_task(instance.lost())
        yield lost
        lost.cancel()
        await asyncio.wait({lost})
        await instance.stop()
        await store.close()


def test_nobody_knows_how_it_fares(tmp_path: Path) -> None:
    async def main() -> None:
        container = await fleet(tmp_path).start(spec(tmp_path))
        assert await container.last_words() == ""
        assert container.memory() is None  # type: ignore[func-returns-value]
        assert await container.measure() is None  # type: ignore[func-returns-value]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(container.ended(), 0.01)

    asyncio.run(main())


def test_a_later_life_takes_the_same_again(tmp_path: Path) -> None:
    async def main() -> None:
        record = (await fleet(tmp_path).start(spec(tmp_path))).record
        later = fleet(tmp_path)
        again = await later.adopt(spec(tmp_path), record)
        assert again is not None
        assert again.url == FIRST
        assert await later.adopt(spec(tmp_path), record) is None
        assert await later.adopt(spec(tmp_path), {"url": "http://gone:1"}) is None
        assert await later.adopt(spec(tmp_path), {}) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("instances", "words"),
    [
        ((), "needs static_instances"),
        (("http://a:1",), "URL=DIR"),
        (("http://a:1=",), "URL=DIR"),
        (("a:1=/x",), "URL=DIR"),
        (("ftp://a:1=/x",), "URL=DIR"),
        (("http://a:1=/x", "http://a:1/=/y"), "of its own"),
        (("http://a:1=/x", "http://b:1=/x/"), "of its own"),
    ],
)
def test_settings_that_make_no_sense_are_told(instances: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        StaticFleet(EndpointSettings(fleet="static", static_instances=instances))
