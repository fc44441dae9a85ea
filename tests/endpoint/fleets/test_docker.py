"""Instances as containers of a real engine: Podman, through Docker's API."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from endpoint.fleets import control_group, docker_watch
from endpoint.fleets.docker import DockerFleet
from endpoint.fleets.docker_container import DockerContainer
from endpoint.fleets.fleet import FleetError, ImageError, InstanceSpec
from endpoint.settings import EndpointSettings
from endpoint.specs import Mode
from tests.podman import MULTI_MODEL, Podman, podman, volumes

from .parts import MIB, client, healthy, invoked, put, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

IMAGE, UNLABELLED = "localhost/many:1", "localhost/one:1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman(tmp_path_factory.mktemp("podman")) as running:
        running.make_image(IMAGE, MULTI_MODEL)
        running.make_image(UNLABELLED)
        yield running


@pytest.fixture
def settings(engine: Podman, tmp_path: Path) -> EndpointSettings:
    """With a directory ``/own`` in each container, for a ``serve`` of the test."""
    (tmp_path / "own").mkdir()
    mounts = (*volumes(), f"{tmp_path}/own:/own:ro")
    return EndpointSettings(docker_url=engine.url, docker_volumes=mounts, region="eu-west-3")


def instance(tmp_path: Path, name: str = "one", **parts: object) -> InstanceSpec:
    """Named after the test, since all tests have one engine."""
    return spec(tmp_path, f"{tmp_path.name}-{name}", image=IMAGE, **parts)  # type: ignore[arg-type]


def with_own_serve(tmp_path: Path, code: str) -> Mapping[str, str]:
    """The environment of a container that runs this shell code and not ours."""
    serve = tmp_path / "own" / "serve"
    serve.write_text(f"#!/bin/sh\n{code}\n")
    serve.chmod(0o755)
    return {"PATH": "/own:/usr/bin"}


async def printed(container: DockerContainer, words: str) -> str:
    """The end of its output, once these words are in it."""
    async with asyncio.timeout(60):
        while words not in (found := await container.last_words()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_container_loads_models_from_where_the_endpoint_puts_them(
    settings: EndpointSettings, tmp_path: Path, network: str
) -> None:
    async def main() -> None:
        fleet = DockerFleet(replace(settings, docker_network=network), {})
        wanted = instance(tmp_path)
        await fleet.check(wanted.container)
        container = await fleet.start(wanted)
        await healthy(container)
        assert container.path(wanted.models / "a" / "model") == "/opt/ml/models/a/model"
        assert await invoked(container, "echo", b"hello") == b"hello"
        assert "loaded in" in await container.last_words()
        assert container.memory() is None
        assert (await container.measure()) == container.memory()
        pid = container._found.attrs["State"]["Pid"]
        assert control_group.used_bytes(pid, container._found.id)
        assert control_group.used_bytes(os.getpid(), container._found.id) is None
        memory = await container.measure()
        assert memory is not None
        assert 5 * MIB < memory.used < memory.limit == 512 * MIB
        await container.stop(20)
        assert await container.ended() == "exited with code 0"
        assert "modelyard stopped" in await container.last_words()
        assert await fleet.adopt(wanted, container.record) is None
        await fleet.close()

    asyncio.run(main())


def test_a_container_serves_the_one_model_in_single_mode(
    settings: EndpointSettings, tmp_path: Path
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        wanted = instance(tmp_path, mode=Mode.SINGLE)
        await asyncio.to_thread(put, "echo", wanted.single_model)
        container = await fleet.start(wanted)
        await healthy(container)
        async with client(container) as http:
            assert (await http.post("/invocations", content=b"hello")).content == b"hello"
        await container.stop(20)
        await fleet.close()

    asyncio.run(main())


def test_what_the_platform_sets_wins(settings: EndpointSettings, tmp_path: Path) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {"OF_THE_ENDPOINT": "1"})
        variables = {
            **with_own_serve(tmp_path, "env; trap 'exit 0' TERM; sleep 1000 & wait"),
            "MINE": "yes",
            "SAGEMAKER_BIND_TO_PORT": "1",
        }
        container = await fleet.start(instance(tmp_path, environment=variables))
        lines = set((await printed(container, "SAGEMAKER_SAFE")).splitlines())
        assert lines >= {
            "MINE=yes",
            "SAGEMAKER_BIND_TO_PORT=8080",
            "SAGEMAKER_MULTI_MODEL=true",
            "SAGEMAKER_SAFE_PORT_RANGE=23000-23999",
            "AWS_REGION=eu-west-3",
        }
        assert "OF_THE_ENDPOINT=1" not in lines
        await container.stop(5)
        await fleet.close()

    asyncio.run(main())


def test_a_container_is_adopted_by_a_later_life(settings: EndpointSettings, tmp_path: Path) -> None:
    async def main() -> None:
        first = DockerFleet(settings, {})
        wanted = instance(tmp_path)
        container = await first.start(wanted)
        await first.close()
        second = DockerFleet(settings, {})
        assert await second.adopt(instance(tmp_path / "other"), container.record) is None
        again = await second.adopt(wanted, container.record)
        assert again is not None
        assert (again.url, again.record) == (container.url, container.record)
        await healthy(again)
        await again.stop(20)
        await second.close()

    asyncio.run(main())


def test_one_whose_record_was_never_kept_is_removed(
    settings: EndpointSettings, tmp_path: Path
) -> None:
    async def main() -> None:
        first = DockerFleet(settings, {})
        wanted = instance(tmp_path)
        await first.start(wanted)
        with pytest.raises(FleetError, match="cannot be made"):
            await first.start(wanted)  # its name is taken
        await first.close()
        second = DockerFleet(settings, {})
        assert await second.adopt(wanted, {}) is None
        container = await second.start(wanted)
        await container.stop(1)  # a first process without a handler is deaf
        await second.close()

    asyncio.run(main())


@pytest.mark.parametrize("mode", list(Mode))
def test_what_runs_in_a_container_cannot_change_models(
    settings: EndpointSettings, tmp_path: Path, mode: Mode
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        where = "/opt/ml/models" if mode is Mode.MULTI else "/opt/ml/model"
        code = f"cat {where}/there; mv {where}/there {where}/swapped; touch {where}/new; exit 3"
        wanted = instance(tmp_path, mode=mode, environment=with_own_serve(tmp_path, code))
        models = wanted.models if mode is Mode.MULTI else wanted.single_model
        await asyncio.to_thread(models.mkdir, parents=True)
        (models / "there").write_text("seen\n")
        container = await fleet.start(wanted)
        assert await container.ended() == "exited with code 3"
        words = await container.last_words()
        assert "seen" in words
        assert words.count("Read-only file system") == 2
        assert [path.name for path in models.iterdir()] == ["there"]
        await container.stop(5)
        await fleet.close()

    asyncio.run(main())


def test_the_engine_is_asked_once_a_second_however_many_containers_run(
    settings: EndpointSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()
    send = HTTPAdapter.send

    def counting(self: HTTPAdapter, request: PreparedRequest, *args: Any, **more: Any) -> Response:
        calls.append(f"{request.method} {request.path_url}")
        return send(self, request, *args, **more)

    async def main() -> None:
        fleet = DockerFleet(settings, {})
        variables = with_own_serve(tmp_path, "trap 'exit 0' TERM; sleep 1000 & wait")
        names = ("a", "b", "c")
        running = [
            await fleet.start(instance(tmp_path, name, environment=variables)) for name in names
        ]
        monkeypatch.setattr(HTTPAdapter, "send", counting)
        async with asyncio.timeout(30):
            while len(calls) < 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        assert all("/containers/json" in call for call in calls), calls
        await asyncio.gather(*(container.stop(5) for container in running))
        await fleet.close()

    asyncio.run(main())


def test_a_look_that_fails_in_any_way_is_told_and_the_next_one_sees_the_end(
    settings: EndpointSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(client: object) -> set[str]:
        monkeypatch.undo()
        raise KeyError("Id")

    async def main() -> None:
        fleet = DockerFleet(settings, {})
        monkeypatch.setattr(docker_watch, "_running", failing)
        variables = with_own_serve(tmp_path, "exit 3")
        container = await fleet.start(instance(tmp_path, environment=variables))
        async with asyncio.timeout(60):
            assert await container.ended() == "exited with code 3"
        assert "cannot be looked at" in caplog.text
        await container.stop(5)
        await fleet.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("echo 'no luck' >&2; exit 3", "exited with code 3"),
        ("echo 'no luck'; kill -SEGV $$", "exited with code 139 (SIGSEGV)"),
        ("echo 'no luck'; kill -9 $$", "SIGKILL, perhaps by the kernel for want of memory"),
    ],
)
def test_how_it_ended_is_told_with_its_last_words(
    settings: EndpointSettings, tmp_path: Path, code: str, words: str
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        # a shell within the shell: the first process of a container gets no signal of its own
        variables = with_own_serve(tmp_path, f'sh -c "{code.replace("$", chr(92) + "$")}"; exit $?')
        container = await fleet.start(instance(tmp_path, environment=variables))
        assert words in await container.ended()
        assert (await container.last_words()).startswith("no luck")
        await container.stop(5)
        await container.stop(5)
        await fleet.close()

    asyncio.run(main())


def test_one_that_is_removed_behind_our_back_has_ended(
    settings: EndpointSettings, engine: Podman, tmp_path: Path
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        container = await fleet.start(instance(tmp_path))
        await asyncio.to_thread(
            engine.run, "rm", "-f", "-t", "0", str(container.record["container"])
        )
        assert await container.ended()
        await container.stop(5)
        await fleet.close()

    asyncio.run(main())


def test_one_that_ignores_sigterm_is_killed(settings: EndpointSettings, tmp_path: Path) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        variables = with_own_serve(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 1; done")
        container = await fleet.start(instance(tmp_path, environment=variables))
        await printed(container, "deaf")
        await container.stop(1)
        assert "SIGKILL" in await container.ended()
        await fleet.close()

    asyncio.run(main())


def test_an_image_must_say_that_it_can_serve_many_models(
    settings: EndpointSettings, tmp_path: Path
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        with pytest.raises(ImageError, match=r"does not contain required .*multi-models=true"):
            await fleet.check(spec(tmp_path, image=UNLABELLED).container)
        await fleet.check(spec(tmp_path, image=UNLABELLED, mode=Mode.SINGLE).container)
        await fleet.close()

    asyncio.run(main())


@pytest.mark.parametrize("image", ["localhost:1/not/there:1", "Not An Image", ""])
def test_an_image_that_cannot_be_had_is_told(
    settings: EndpointSettings, tmp_path: Path, image: str
) -> None:
    async def main() -> None:
        fleet = DockerFleet(settings, {})
        with pytest.raises(ImageError, match=r"cannot be pulled|no Image"):
            await fleet.check(spec(tmp_path, image=image).container)
        await fleet.close()

    asyncio.run(main())


def test_an_image_without_serve_is_told_and_leaves_nothing(
    settings: EndpointSettings, tmp_path: Path
) -> None:
    async def main() -> None:
        bare = DockerFleet(replace(settings, docker_volumes=()), {})
        wanted = instance(tmp_path)
        with pytest.raises(FleetError, match=r"cannot be started: .*serve"):
            await bare.start(wanted)
        await bare.close()
        fleet = DockerFleet(settings, {})
        container = await fleet.start(wanted)  # its name is free
        await container.stop(1)  # a first process without a handler is deaf
        await fleet.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the docker package leaves its socket open
def test_without_an_engine_it_is_told_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        fleet = DockerFleet(EndpointSettings(docker_url=f"unix://{tmp_path}/none.sock"), {})
        with pytest.raises(FleetError, match="docker_url"):
            await fleet.check(instance(tmp_path).container)
        await fleet.close()

    asyncio.run(main())
    gc.collect()
