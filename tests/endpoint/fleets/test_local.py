"""Local instances: real ``serve`` processes, and commands that are worse."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoint.fleets.control_group import limit_bytes
from endpoint.fleets.fleet import FleetError, ImageError
from endpoint.fleets.local import LocalFleet
from endpoint.fleets.ports import Ports, free_blocks, is_free
from endpoint.processes import tree
from endpoint.processes.process import kill_marked
from endpoint.settings import EndpointSettings
from endpoint.specs import Mode

from .parts import MIB, ROOT, client, healthy, invoked, put, spec

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "OF_THE_ENDPOINT": "1",
    "MODELYARD_UP_FLEET": "local",
    "MODELYARD_QUEUE_SIZE": "7",
    "SAGEMAKER_MULTI_MODEL": "true",
}
PRINTS_ITS_ENVIRONMENT = shlex.join(
    [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
)


def fleet(command: str = "", environment: dict[str, str] = ENVIRONMENT) -> LocalFleet:
    settings = EndpointSettings(local_command=command, region="eu-west-3")
    return LocalFleet(settings, environment)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test does, its instances end with it."""
    yield
    for directory in tmp_path.iterdir():
        kill_marked(str(directory))


def test_serve_loads_models_from_where_the_endpoint_puts_them(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        container = await local.start(spec(tmp_path))
        await healthy(container)
        assert await invoked(container, "echo", b"hello") == b"hello"
        memory = await container.measure()
        assert container.memory() == memory
        assert 5 * MIB < memory.used < memory.limit == 512 * MIB
        await container.stop(30)
        assert await container.ended() == "exited with code 0"
        assert "modelyard stopped" in await container.last_words()
        assert tree.marked(str(tmp_path / "one")) == []
        await local.close()

    asyncio.run(main())


def test_serve_serves_the_one_model_in_single_mode(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        wanted = spec(tmp_path, mode=Mode.SINGLE)
        await asyncio.to_thread(put, "echo", wanted.single_model)
        container = await local.start(wanted)
        await healthy(container)
        async with client(container) as http:
            assert (await http.post("/invocations", content=b"hello")).content == b"hello"
        await container.stop(30)
        await local.close()

    asyncio.run(main())


def environment_of(tmp_path: Path, mode: Mode, **variables: str) -> dict[str, str]:
    """What a command finds in its environment."""

    async def main() -> str:
        local = fleet(PRINTS_ITS_ENVIRONMENT)
        container = await local.start(spec(tmp_path, mode=mode, environment=variables))
        assert await container.ended() == "exited with code 0"
        await local.close()
        return (tmp_path / "one" / "log").read_text()

    found: dict[str, str] = json.loads(asyncio.run(main()))
    return found


def test_the_environment_is_made_of_ours_the_containers_and_the_platforms(tmp_path: Path) -> None:
    found = environment_of(
        tmp_path,
        Mode.MULTI,
        MODELYARD_HOST="0.0.0.0",
        MODELYARD_QUEUE_SIZE="9",
        SAGEMAKER_BIND_TO_PORT="1",
        AWS_REGION="mars-1",
    )
    models = tmp_path / "one" / "models"
    port = int(found["SAGEMAKER_BIND_TO_PORT"])
    wanted = {
        "OF_THE_ENDPOINT": "1",
        "MODELYARD_HOST": "0.0.0.0",
        "MODELYARD_QUEUE_SIZE": "9",
        "MODELYARD_MODEL_ROOTS": str(models),
        "MODELYARD_MODEL_DIR": str(models / "single" / "model"),
        "MODELYARD_MEMORY_LIMIT_BYTES": str(512 * MIB),
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_SAFE_PORT_RANGE": f"{port + 1}-{port + 19}",
        "AWS_REGION": "eu-west-3",
    }
    assert wanted.items() <= found.items()
    assert "MODELYARD_UP_FLEET" not in found


def test_a_single_container_is_not_told_to_serve_many_models(tmp_path: Path) -> None:
    found = environment_of(tmp_path, Mode.SINGLE)
    assert "SAGEMAKER_MULTI_MODEL" not in found
    assert found["MODELYARD_QUEUE_SIZE"] == "7"


@pytest.mark.parametrize(
    "command", ["no-such-server --start", "/etc/passwd", "'unclosed", "  ", "/nowhere/serve"]
)
def test_a_command_that_cannot_run_is_told_at_once(tmp_path: Path, command: str) -> None:
    async def main() -> None:
        local = fleet(command)
        with pytest.raises(ImageError, match="local_command="):
            await local.check(spec(tmp_path).container)
        with pytest.raises(ImageError, match="local_command="):
            await local.start(spec(tmp_path))

    asyncio.run(main())


def test_the_image_may_have_any_name(tmp_path: Path) -> None:
    asyncio.run(fleet().check(spec(tmp_path, image="1.dkr.ecr.eu-west-3/x:y").container))
    asyncio.run(fleet("python3 -m x").check(spec(tmp_path, image="").container))


@pytest.mark.parametrize("start", [b"\0garbage", b"", b"#!", b"#!/no/such/interpreter -x\n"])
def test_a_file_that_is_no_program_is_told_before_there_is_an_endpoint(
    tmp_path: Path, start: bytes
) -> None:
    async def main() -> None:
        program = tmp_path / "program"
        program.write_bytes(start)
        program.chmod(0o755)
        with pytest.raises(ImageError, match="no such command that can be run"):
            await fleet(str(program)).check(spec(tmp_path).container)

    asyncio.run(main())


def test_a_program_that_the_kernel_refuses_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        program = tmp_path / "program"
        program.write_bytes(b"\x7fELF, or so it says")
        program.chmod(0o755)
        words = f"instance one cannot be started: '{program} -x': .*Exec format error"
        with pytest.raises(FleetError, match=words):
            await fleet(f"{program} -x").start(spec(tmp_path))

    asyncio.run(main())


def test_a_script_that_prints_nothing_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        script = tmp_path / "script"
        script.write_text("#!/bin/sh\nexit 4\n")
        script.chmod(0o755)
        local = fleet(f"{script} --serve")
        container = await local.start(spec(tmp_path))
        assert await container.ended() == "exited with code 4"
        assert await container.last_words() == f"'{script} --serve' printed nothing"
        await local.close()

    asyncio.run(main())


def test_without_a_limit_it_may_take_what_this_process_may(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        container = await local.start(spec(tmp_path, memory_limit_bytes=None))
        page = os.sysconf("SC_PAGE_SIZE")
        machine = page * os.sysconf("SC_PHYS_PAGES")
        assert container.memory().limit == min(machine, limit_bytes() or machine)
        await container.stop(5)
        await local.close()

    asyncio.run(main())


def test_one_that_lost_its_port_to_another_gets_a_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken: int = other.getsockname()[1]

            def ports() -> Iterator[Ports]:
                yield Ports(taken, taken + 1)
                yield from free_blocks()

            local = LocalFleet(EndpointSettings(), ENVIRONMENT, ports)
            container = await local.start(spec(tmp_path))
        assert container.url != f"http://127.0.0.1:{taken}"
        await healthy(container)
        assert "in use" in (tmp_path / "one" / "log").read_text()
        await container.stop(30)
        await local.close()

    asyncio.run(main())


def test_where_no_port_is_free_it_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken: int = other.getsockname()[1]
            local = LocalFleet(EndpointSettings(), ENVIRONMENT, lambda: iter([Ports(taken, taken)]))
            with pytest.raises(FleetError, match="no port"):
                await local.start(spec(tmp_path))

    asyncio.run(main())


def test_blocks_of_ports_are_free_when_they_are_given() -> None:
    block = next(free_blocks())
    assert all(is_free(port) for port in range(block.port, block.last + 1))
    with socket.create_server(("127.0.0.1", block.port)):
        assert not is_free(block.port)
        assert block not in free_blocks()


def test_instances_that_start_at_once_get_ports_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        started = await asyncio.gather(
            *(local.start(spec(tmp_path, name)) for name in ("a", "b", "c"))
        )
        assert len({container.url for container in started}) == 3
        await asyncio.gather(*map(healthy, started))
        await asyncio.gather(*(container.stop(30) for container in started))
        await local.close()

    asyncio.run(main())


def test_one_that_ends_at_once_tells_why(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        container = await local.start(spec(tmp_path, environment={"MODELYARD_QUEUE_SIZE": "0"}))
        assert await container.ended() == "exited with code 2"
        words = await container.last_words()
        assert "container.entrypoint' printed:\n" in words
        assert "queue_size" in words
        await container.stop(30)
        await local.close()

    asyncio.run(main())


HANGS_WITH_A_CHILD = """
import os, signal, sys

def model_fn(model_dir):
    if os.fork() == 0:
        os.setsid()
        with open(os.path.join(model_dir, "ready"), "w") as file:
            file.write("hangs")
    while True:
        signal.pause()
"""


def test_a_hanging_load_and_what_it_forked_end_with_the_instance(tmp_path: Path) -> None:
    async def main() -> None:
        local = fleet()
        container = await local.start(spec(tmp_path))
        await healthy(container)
        model = container.models / "hangs" / "model"
        code = model / "code" / "inference.py"
        await asyncio.to_thread(code.parent.mkdir, parents=True)
        code.write_text(HANGS_WITH_A_CHILD)
        os.mkfifo(model / "ready")
        async with client(container) as http:
            order = {"model_name": "hangs", "url": container.path(model)}
            loading = asyncio.create_task(http.post("/models", json=order))
            assert await asyncio.to_thread((model / "ready").read_text) == "hangs"
            await container.stop(0.5)
            await asyncio.wait([loading])
            assert loading.exception() or loading.result().status_code >= 500
        assert tree.marked(str(tmp_path / "one")) == []
        await local.close()

    asyncio.run(main())


STARTS_AN_INSTANCE_AND_WAITS_TO_BE_KILLED = """
import asyncio, json, sys
from pathlib import Path
from tests.endpoint.fleets.parts import spec
from tests.endpoint.fleets.test_local import fleet

async def main():
    container = await fleet().start(spec(Path(sys.argv[1])))
    print(json.dumps(container.record), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def killed_endpoint(tmp_path: Path) -> dict[str, str | int]:
    """The record of an instance whose endpoint was killed."""
    command = [sys.executable, "-c", STARTS_AN_INSTANCE_AND_WAITS_TO_BE_KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        parent.kill()
    record: dict[str, str | int] = json.loads(line)
    return record


def test_an_instance_outlives_its_killed_endpoint_and_is_adopted(tmp_path: Path) -> None:
    async def main() -> None:
        record = await asyncio.to_thread(killed_endpoint, tmp_path)
        local = fleet()
        container = await local.adopt(spec(tmp_path), record)
        assert container is not None
        assert container.record == record
        await healthy(container)
        assert await invoked(container, "echo", b"hello") == b"hello"
        await container.stop(30)
        assert "ended" in await container.ended()
        assert await local.adopt(spec(tmp_path), record) is None
        await local.close()

    asyncio.run(main())


def test_one_whose_record_was_never_kept_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        record = await asyncio.to_thread(killed_endpoint, tmp_path)
        local = fleet()
        assert await local.adopt(spec(tmp_path, "another"), {}) is None
        assert tree.look(int(record["pid"])) is not None
        assert await local.adopt(spec(tmp_path), {}) is None
        left = tree.look(int(record["pid"]))
        assert left is None or left.dead
        await local.close()

    asyncio.run(main())


def test_closing_the_fleet_lets_instances_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        first = fleet()
        container = await first.start(spec(tmp_path))
        await first.close()
        second = fleet()
        again = await second.adopt(spec(tmp_path), container.record)
        assert again is not None
        await healthy(again)
        await again.stop(30)
        await second.close()

    asyncio.run(main())
