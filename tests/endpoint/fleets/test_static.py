"""Containers that somebody else runs, as instances."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from endpoint.fleets.fleet import FleetError
from endpoint.fleets.static import StaticFleet
from endpoint.settings import EndpointSettings, SettingsError

from .parts import spec

FIRST, SECOND = "http://10.0.0.1:8080", "https://[::1]:9090/under/"


def fleet(tmp_path: Path) -> StaticFleet:
    """Two: one sees our files as they are, the other has them mounted."""
    instances = (f"{FIRST}={tmp_path}/a", f"{SECOND}={tmp_path}/b=/opt/ml/models/")
    return StaticFleet(EndpointSettings(fleet="static", static_instances=instances))


def test_each_serves_one_instance_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        static = fleet(tmp_path)
        await static.check(spec(tmp_path).container)
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


def test_nobody_knows_how_it_fares(tmp_path: Path) -> None:
    async def main() -> None:
        container = await fleet(tmp_path).start(spec(tmp_path))
        assert container.last_words() == ""
        assert container.memory() is None  # type: ignore[func-returns-value]
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
