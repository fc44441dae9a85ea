"""Requests that found their model's GPU full: room is made once, and they are sent once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from handlers.errors import DeviceOutOfMemory
from model_server import wire
from model_server.errors import OutOfMemory
from model_server.gateway.control_client import ControlClient
from model_server.gateway.http_messages import HttpRequest, HttpResponse, StreamBroken
from model_server.gateway.invocation import Invoker
from model_server.run_dir import RunDir
from model_server.settings import Settings

from ...contract.endpoint import Endpoint, assert_error
from ...contract.polling import eventually
from ...contract.server import OwnServer, Server
from .. import inside
from ..conftest import QUICK
from ..told import load, running
from ..yard_parts import run

FULL = wire.ReplyHead(507, kind=DeviceOutOfMemory.kind)
HOST = wire.ReplyHead(507, kind="PredictionException")
FINE = wire.ReplyHead(200, "text/plain")
STREAM = wire.ReplyHead(200, "text/plain", streams=True)
BODY = b"the body"


class Backstage:
    """A model that gives these answers, one for each request, and a controller behind it."""

    def __init__(self, directory: Path, *heads: wire.ReplyHead, room: bool = True) -> None:
        (directory / "m").mkdir()
        self.run_dir = RunDir(str(directory))
        self.heads = list(heads)
        self.room = room
        self.asked: list[wire.Command] = []
        self.bodies: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sizes = wire.PREFIX.unpack(await reader.readexactly(wire.PREFIX.size))
        await reader.readexactly(sizes[0])
        self.bodies.append(await reader.readexactly(sizes[1]))
        head, text = self.heads.pop(0), b"answer %d" % len(self.bodies)
        writer.write(wire.frame_head(head, len(text)) + text)
        if head.streams:
            writer.write(wire.PREFIX.pack(len(wire.encode(FULL)), 4) + wire.encode(FULL) + b"full")
        writer.close()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: wire.Answer = wire.Done()
        if not self.room:
            answer = wire.Failed(OutOfMemory("nobody can leave").problem())
        self.asked.append(await wire.read_command(reader))
        writer.write(wire.message(answer))
        writer.close()

    async def invoke(self) -> HttpResponse:
        """One request through a gateway's invoker."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[HttpResponse] = loop.create_future()
        control = ControlClient(self.run_dir.control_socket)
        invoker = Invoker(Settings(), self.run_dir, control, loop)
        request = HttpRequest("POST", "/models/m/invoke", "", [], BODY)
        invoker.invoke(request, "m", done.set_result)
        response = await done
        assert not invoker.under_way
        if response.stream is not None:
            response.body = b"".join([bytes(part) async for part in response.stream])
        for _, writer in control._idle:
            writer.close()
        return response


@asynccontextmanager
async def listening(stage: Backstage) -> AsyncIterator[Backstage]:
    model = await asyncio.start_unix_server(stage.answer, stage.run_dir.model_socket("m"))
    control = await asyncio.start_unix_server(stage.control, stage.run_dir.control_socket)
    try:
        yield stage
    finally:
        model.close()
        control.close()
        await asyncio.sleep(0)


def asked(stage: Backstage) -> HttpResponse:
    """What a request comes to."""
    found: list[HttpResponse] = []

    async def work() -> None:
        async with listening(stage):
            found.append(await stage.invoke())

    run(work())
    return found[0]


def test_room_is_made_and_the_request_sent_again(short_path: Path) -> None:
    stage = Backstage(short_path, FULL, FINE)
    response = asked(stage)
    assert (response.status, bytes(response.body)) == (200, b"answer 2")
    assert stage.asked == [wire.MakeRoom("m")]
    assert stage.bodies == [BODY, BODY]


def test_a_second_time_is_the_clients_to_know(short_path: Path) -> None:
    stage = Backstage(short_path, FULL, FULL, FINE)
    response = asked(stage)
    assert response.status == 507
    assert b"answer 2" in response.body
    assert stage.asked == [wire.MakeRoom("m")]


def test_where_no_room_can_be_made_the_client_hears_what_the_model_said(short_path: Path) -> None:
    stage = Backstage(short_path, FULL, room=False)
    response = asked(stage)
    assert response.status == 507
    assert b"answer 1" in response.body
    assert b"DeviceOutOfMemoryException" in response.body
    assert len(stage.bodies) == 1


@pytest.mark.parametrize("head", [HOST, FINE, wire.ReplyHead(500, kind="PredictionException")])
def test_nothing_else_is_sent_again(short_path: Path, head: wire.ReplyHead) -> None:
    stage = Backstage(short_path, head)
    assert asked(stage).status == head.status
    assert stage.asked == []


def test_a_stream_that_has_begun_is_not_sent_again(short_path: Path) -> None:
    stage = Backstage(short_path, STREAM)
    with pytest.raises(StreamBroken, match="full"):
        asked(stage)
    assert (stage.asked, len(stage.bodies)) == ([], 1)


# --- with a whole server -------------------------------------------------------------------------

GPU_BYTES = 1 << 30
ON_GPU = 'device = "cuda:0"'
TABLE = '{"gpus": [{"name": "table", "total_bytes": %d}], "process_dir": "%s"}'


@pytest.fixture(scope="module")
def gpu_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that play to be on a GPU say what they hold."""
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def gpu_server(
    models_dir: Path, gpu_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    """A server with a GPU of 10 GiB, as a table tells."""
    logs = tmp_path_factory.mktemp("logs")
    table = logs / "gpus.json"
    table.write_text(TABLE % (10 * GPU_BYTES, gpu_dir))
    settings = {**QUICK, "MODELYARD_GPU_PROBE": str(table), "MODELYARD_GATEWAYS": "1"}
    with running(models_dir, logs / "gpu.log", settings) as own:
        yield own


@pytest.fixture
def here(
    gpu_server: OwnServer, endpoint_of: Callable[[Server], Endpoint]
) -> Iterator[tuple[OwnServer, Endpoint]]:
    made = endpoint_of(gpu_server)
    yield gpu_server, made
    made.unload_all()


def full_model(here: tuple[OwnServer, Endpoint], tmp_path: Path, times: int, **env: Path) -> str:
    """A model that finds its GPU full so many times."""
    own, endpoint = here
    (tmp_path / "full").write_text("x\n" * times)
    files = {"FULL": tmp_path / "full", "ASKED": tmp_path / "asked"}
    return load(endpoint, own, "full_device", ON_GPU, **files, **env)


def idle_model(here: tuple[OwnServer, Endpoint], gpu_dir: Path, tmp_path: Path) -> str:
    """Another model on the GPU, which can leave it."""
    own, endpoint = here
    moves = tmp_path / "moves"
    name = load(endpoint, own, "parks", ON_GPU, GPU_DIR=gpu_dir, GPU_BYTES=GPU_BYTES, MOVES=moves)
    assert endpoint.invoke(name, b"0").status_code == 200
    return name


def requests(tmp_path: Path) -> int:
    return len((tmp_path / "asked").read_text().splitlines())


def test_a_model_whose_device_stays_full_is_507_with_its_own_words(
    here: tuple[OwnServer, Endpoint], tmp_path: Path
) -> None:
    name = full_model(here, tmp_path, times=9)
    assert "Tried to allocate 2.00 GiB" in assert_error(here[1].invoke(name, b"x"), 507)


def test_a_host_without_memory_is_507_at_once(
    here: tuple[OwnServer, Endpoint], tmp_path: Path
) -> None:
    name = full_model(here, tmp_path, times=0)
    assert "of the host" in assert_error(here[1].invoke(name, b"host"), 507)
    assert requests(tmp_path) == 1


def test_another_model_leaves_the_device_and_the_request_is_answered(
    here: tuple[OwnServer, Endpoint], gpu_dir: Path, tmp_path: Path
) -> None:
    endpoint = here[1]
    other = idle_model(here, gpu_dir, tmp_path)
    name = full_model(here, tmp_path, times=0, GPU_DIR=gpu_dir)
    before = pid_of(endpoint, other)

    def finds_it_full_once() -> bool:
        (tmp_path / "full").write_text("x\n")
        (tmp_path / "asked").write_text("")
        return endpoint.invoke(name, b"hello").status_code == 200

    assert eventually(finds_it_full_once)  # a model that was just loaded may stay for a moment
    assert requests(tmp_path) == 2
    assert endpoint.get(other).json()["state"] == "PARKED"
    assert endpoint.invoke(other, b"0").json() == {"pid": before, "on_gpu": True}


def pid_of(endpoint: Endpoint, name: str) -> int:
    (worker,) = inside.workers(endpoint, name)
    return int(worker["pid"])
