"""``GET /memory`` and ``/memory/decisions``: what the controller is asked, and what is told."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from model_server import wire
from model_server.gateway.gateway import Gateway
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.memory.decisions import Choice, Decision
from model_server.run_dir import RunDir
from model_server.settings import Settings

from ..conftest import Yard
from ..yard_parts import run
from .test_gateway import ask, closed

CHOICE = Choice("b", "evict", "", "ram", 5, float("-inf"), 1.0, 0.4, 9.0, 3600.0)
DECISION = Decision(7, 1.5, "a", "load", "lru", {"ram": 9}, {"ram": 4}, "evict", victims=[CHOICE])
MEMORY = wire.MemoryInfo(
    "cost_aware",
    True,
    [wire.LedgerInfo("ram", 100, 10, 60, 5, 30)],
    [wire.ModelMemory("a", "READY", "python", False, {"ram": 60}, 0.4, 7, 12.0, 3.0, 1.5, 2)],
    [wire.ShadowInfo("lru", 3, 2, 1.5)],
)


@pytest.fixture
def place() -> Iterator[RunDir]:
    with tempfile.TemporaryDirectory() as path:
        yield RunDir.create(path + "/r")


def asked(place: RunDir, path: str, query: str = "") -> tuple[HttpResponse, list[wire.Command]]:
    """The answer to a GET, and what the gateway asked the controller for it."""
    commands: list[wire.Command] = []
    responses: list[HttpResponse] = []
    left = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                commands.append(await wire.read_command(reader))
                found = isinstance(commands[-1], wire.ShowMemory)
                writer.write(wire.message(MEMORY if found else wire.DecisionsFound([DECISION])))
        except asyncio.IncompleteReadError:
            writer.close()
            await closed(writer)
            left.set()

    async def work() -> None:
        gateway = Gateway(Settings(multi_model=True), place)
        async with await asyncio.start_unix_server(converse, place.control_socket):
            responses.append(await ask(gateway, HttpRequest("GET", path, query, [])))
            for _, writer in gateway._control._idle:
                writer.close()
            if commands:
                await left.wait()

    run(work())
    return responses[0], commands


def content(response: HttpResponse) -> Any:
    return json.loads(bytes(response.body))


def test_memory_is_told_with_ledgers_models_and_shadows(place: RunDir) -> None:
    response, commands = asked(place, "/memory")
    assert commands == [wire.ShowMemory()]
    assert (response.status, response.route) == (200, "/memory")
    assert content(response) == {
        "policy": "cost_aware",
        "thrashing": True,
        "ledgers": [
            {
                "name": "ram",
                "limitBytes": 100,
                "overheadBytes": 10,
                "heldBytes": 60,
                "leavingBytes": 5,
                "freeBytes": 30,
            }
        ],
        "models": [
            {
                "modelName": "a",
                "state": "READY",
                "framework": "python",
                "pinned": False,
                "heldBytes": {"ram": 60},
                "reloadSeconds": 0.4,
                "uses": 7,
                "usesPerHour": 12.0,
                "idleSeconds": 3.0,
                "worth": 1.5,
                "evictions": 2,
                "busy": False,
            }
        ],
        "shadows": [{"policy": "lru", "hits": 3, "misses": 2, "reloadSeconds": 1.5}],
    }


def test_decisions_are_told_and_numbers_that_json_lacks_are_null(place: RunDir) -> None:
    response, commands = asked(place, "/memory/decisions")
    assert commands == [wire.ShowDecisions(None, 100)]
    assert (response.status, response.route) == (200, "/memory/decisions")
    (decision,) = content(response)["decisions"]
    assert (decision["number"], decision["modelName"], decision["outcome"]) == (7, "a", "evict")
    (victim,) = decision["victims"]
    assert (victim["modelName"], victim["freedBytes"], victim["worth"]) == ("b", 5, None)
    assert victim["expectedReturnSeconds"] == 3600.0


@pytest.mark.parametrize(
    ("query", "name", "limit"),
    [
        ("limit=1", None, 1),
        ("limit=1000", None, 1000),
        ("model=a", "a", 100),
        ("model=a%2Bb&limit=5", "a+b", 5),
        ("model=" + quote("ä/🦙?&=%\n", safe=""), "ä/🦙?&=%\n", 100),
        ("model=" + "ä".encode().decode("latin-1"), "ä", 100),
        ("other=1", None, 100),
    ],
)
def test_a_model_and_a_limit_can_be_given(
    place: RunDir, query: str, name: str | None, limit: int
) -> None:
    response, commands = asked(place, "/memory/decisions", query)
    assert response.status == 200
    assert commands == [wire.ShowDecisions(name, limit)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit must be a number from 1 to 1000"),
        ("limit=1001", "limit must be a number from 1 to 1000"),
        ("limit=-1", "limit must be a number"),
        ("limit=", "limit must be a number"),
        ("limit=ten", "limit must be a number"),
        ("model=%ff", "is not UTF-8"),
        ("model=", "a model name has 1 to"),
        ("model=" + "x" * 20_000, "a model name has 1 to"),
    ],
)
def test_what_cannot_be_meant_is_refused(place: RunDir, query: str, words: str) -> None:
    response, commands = asked(place, "/memory/decisions", query)
    assert response.status == 400
    assert words in content(response)["message"]
    assert commands == []


def test_only_get_is_possible_and_nothing_below(place: RunDir) -> None:
    async def work() -> None:
        gateway = Gateway(Settings(multi_model=True), place)
        for path in ("/memory", "/memory/decisions"):
            response = await ask(gateway, HttpRequest("DELETE", path, "", []))
            assert (response.status, response.headers) == (405, [("Allow", "GET")])
        response = await ask(gateway, HttpRequest("GET", "/memory/x", "", []))
        assert response.status == 404
        assert "/memory/decisions" in content(response)["message"]

    run(work())


def test_a_server_tells_its_memory_and_what_it_decided(yard: Yard) -> None:
    _, endpoint = yard()
    name = "memory/decisions"
    loaded = endpoint.load("echo", name)
    assert loaded.status_code == 200, loaded.text
    memory = endpoint.send("GET", "/memory").json()
    (model,) = memory["models"]
    (ledger,) = memory["ledgers"]
    assert (memory["policy"], memory["thrashing"]) == ("cost_aware", False)
    assert (model["modelName"], model["state"], model["evictions"]) == (name, "READY", 0)
    assert ledger["heldBytes"] == model["heldBytes"]["ram"] > 0
    target = f"/memory/decisions?model={quote(name, safe='')}"
    (decision,) = endpoint.send("GET", target).json()["decisions"]
    assert (decision["cause"], decision["outcome"]) == ("load", "fits")
    assert endpoint.send("GET", "/memory/decisions?model=other").json() == {"decisions": []}
    assert endpoint.get(name).status_code == 200
