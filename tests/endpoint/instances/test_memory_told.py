"""What containers tell of their memory: ours, and others that answer as they like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endpoint.events import Event, Events
from endpoint.instances.container_client import MIB, ContainerClient
from endpoint.instances.memory_told import MemoryTold
from tests.endpoint.containers.running import Stub, started
from tests.endpoint.instances.clients import with_client
from tests.endpoint.user import User, until
from tests.endpoint.yard import SERVE, Child, Yard

NAMES = {"id-a": "a.tar.gz", "id-b": "b.tar.gz"}
HOLDS = {"models": [{"modelName": "id-a", "state": "READY", "heldBytes": {"ram": 5, "gpu0": 7}}]}


def victim(name: str, **members: Any) -> dict[str, Any]:
    """Who left, as our container tells it."""
    return {
        "modelName": name,
        "move": "evict",
        "ledger": "ram",
        "freedBytes": 104 << 20,
        "reloadSeconds": 0.25,
        "usesPerHour": 1234.5,
        "idleSeconds": 12.0,
        "reason": "",
        **members,
    }


def decision(number: int, *victims: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A decision, as our container tells it."""
    return {
        "number": number,
        "at": 1000.0 + number,
        "modelName": "id-b",
        "cause": "load",
        "outcome": "evict" if victims else "fits",
        "victims": list(victims),
        "kept": [],
        **members,
    }


def answers(stub: Stub, *documents: Any) -> None:
    """One document after the other, each to both questions; the last one for ever."""
    for document in documents:
        times = None if document is documents[-1] else 2
        stub.rule("unknown", "answer", text=json.dumps(document), times=times)


def told(stub: Stub, times: int, *, found: bool = False) -> tuple[MemoryTold, list[Event]]:
    """What is known after so many questions."""
    events = Events()

    async def ask(client: ContainerClient) -> MemoryTold:
        record = events.of("e", "v", "i")
        one = MemoryTold(client, lambda: NAMES, record, pause_seconds=1.0, found=found)
        for _ in range(times):
            assert await one.ask()
        return one

    return with_client(stub.url, ask), events.since(0)


def memory(*decisions: dict[str, Any]) -> dict[str, Any]:
    """An answer to both questions."""
    return {**HOLDS, "decisions": list(decisions), "policy": "other", "ledgers": [{}]}


def test_who_holds_how_much_is_known() -> None:
    away = {"modelName": "id-b", "state": "EVICTED", "heldBytes": {"ram": 99}}
    with started() as stub:
        answers(stub, {"models": [*HOLDS["models"], away], "decisions": []})
        one, events = told(stub, 1)
    assert one.held == {"id-a": 5, "id-b": 0}
    assert events == []


def test_who_left_for_whom_is_told_once_and_in_order() -> None:
    first, second = decision(1, victim("id-a")), decision(2, victim("id-x", idleSeconds=None))
    with started() as stub:
        answers(stub, memory(first), memory(second, first), memory(decision(3), second, first))
        _, events = told(stub, 4)
    assert [(one.kind, one.target, one.time) for one in events] == [
        ("evict", "a.tar.gz", 1001.0),
        ("evict", "id-x", 1002.0),
    ]
    assert [one.text for one in events] == [
        "for b.tar.gz, which was loaded: 104 MiB freed, unused for 12 s, 1,234 uses an hour, "
        "back in 0.25 s",
        "for b.tar.gz, which was loaded: 104 MiB freed, never used, back in 0.25 s",
    ]


def test_what_an_earlier_life_was_told_is_not_told_again() -> None:
    old, new = decision(7, victim("id-a")), decision(8, victim("id-b"))
    with started() as stub:
        answers(stub, memory(old), memory(new, old))
        _, events = told(stub, 2, found=True)
    assert [one.target for one in events] == ["b.tar.gz"]


def test_a_container_that_has_begun_anew_counts_from_one() -> None:
    with started() as stub:
        answers(stub, memory(decision(9, victim("id-a"))), memory(decision(1, victim("id-b"))))
        _, events = told(stub, 2)
    assert [one.target for one in events] == ["a.tar.gz", "b.tar.gz"]


def test_when_very_much_is_new_more_is_asked_for() -> None:
    all = [decision(number, victim(f"id-{number}")) for number in range(50, 0, -1)]
    with started() as stub:
        answers(stub, memory(*all[:20]), memory(*all))
        _, events = told(stub, 3)
        limits = [seen.path for seen in stub.seen("unknown") if "limit" in seen.path]
    assert [one.target for one in events] == [f"id-{number}" for number in range(1, 51)]
    assert [path.partition("=")[2] for path in limits] == ["20", "1000", "20"]


def test_who_has_not_left_is_not_told() -> None:
    waits = decision(1, victim("id-a"), outcome="wait")
    parked = decision(2, victim("id-a", move="park", ledger="gpu0"), cause="device")
    nobody = decision(3, victim("id-b"), modelName="", cause="growth")
    with started() as stub:
        answers(stub, memory(nobody, parked, waits))
        _, events = told(stub, 1)
    assert [(one.kind, one.target) for one in events] == [
        ("park", "a.tar.gz"),
        ("evict", "b.tar.gz"),
    ]
    assert events[0].text.startswith("for b.tar.gz, whose GPU was full: 104 MiB of gpu0 freed")
    assert events[1].text.startswith("for memory that nobody was counted with: ")


NONSENSE: list[Callable[[Stub], None]] = [
    lambda stub: None,  # 404
    lambda stub: stub.rule("unknown", "answer", text="memory: plenty"),
    lambda stub: stub.rule("unknown", "answer", text='{"models": "\\ud83d"}'),
    lambda stub: stub.rule("unknown", "answer", text="[" * 100_000),
    lambda stub: stub.rule("unknown", "answer", text='{"models": [{"modelName": 1}]}'),
    lambda stub: stub.rule("unknown", "answer", text='{"models": {}}'),
    lambda stub: stub.rule("unknown", "answer", text=json.dumps(HOLDS), status=500),
    lambda stub: stub.rule("unknown", "answer", text=json.dumps(HOLDS)),  # no decisions
    lambda stub: stub.rule("unknown", "large", bytes=17 * MIB),
    lambda stub: stub.rule("unknown", "large", bytes=17 * MIB, chunked=True),
    lambda stub: stub.rule("unknown", "garbage"),
    lambda stub: stub.rule("unknown", "break"),
    lambda stub: stub.rule("unknown", "cut"),
    lambda stub: stub.kill(),
]


@pytest.mark.parametrize("do", NONSENSE)
def test_whatever_else_is_answered_tells_nothing(do: Callable[[Stub], None]) -> None:
    events = Events()

    async def ask(client: ContainerClient) -> MemoryTold:
        record = events.of("e")
        one = MemoryTold(client, lambda: NAMES, record, pause_seconds=1.0, found=False)
        one.held = {"id-a": 1}
        assert not await one.ask()
        return one

    with started() as stub:
        do(stub)
        assert with_client(stub.url, ask).held == {}
    assert events.since(0) == []


# --- real containers ----------------------------------------------------------------------------

# Two models of 100 MiB fit beside the server.
TIGHT: dict[str, Any] = {**SERVE, "instance_memory_bytes": 360 * MIB}


def models(user: User) -> dict[str, Any]:
    """The one instance's, by target."""
    (instance,) = user.instances()
    return {model["target"]: model for model in instance["models"]}


@pytest.mark.timeout(180)
def test_our_container_tells_who_left_for_whom_and_a_restart_does_not_tell_it_again(
    tmp_path: Path,
) -> None:
    with Child(tmp_path, **TIGHT, invoke_timeout_seconds=60.0) as child:
        child.endpoint(child.variant())
        for name in "abcd":
            child.add(f"{name}.tar.gz", model="allocates_100mb")
            child.invoke(f"{name}.tar.gz")
        until(lambda: child.events("evict"), 60)
        until(lambda: models(child)["d.tar.gz"]["memory"], 60)
        left = {event["target"] for event in child.events("evict")}
        assert left <= {"a.tar.gz", "b.tar.gz", "c.tar.gz"}
        for event in child.events("evict"):
            assert event["text"].startswith("for ")
            assert ".tar.gz, which was loaded: 1" in event["text"]
        assert models(child)["d.tar.gz"]["memory"] > 100 * MIB
        (endpoint,) = child.seen()["endpoints"]
        assert endpoint["variants"][0]["metrics"]["evictions"] >= 1
        child.kill()
        child.start()
        until(lambda: models(child)["d.tar.gz"]["memory"], 60)
        assert child.events("evict") == []


def test_other_containers_tell_nothing_and_serve_all_the_same(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.endpoint(yard.variant())
        yard.add("m.tar.gz", says="hello")
        yard.invoke()
        (stub,) = yard.stubs()
        assert len(stub.wait_for("unknown")) == 1
        stub.wait_for("ping", len(stub.seen("ping")) + 3)
        assert [seen.path for seen in stub.seen("unknown")] == ["/memory"]
        assert models(yard)["m.tar.gz"]["memory"] is None
        assert yard.events("instance_lost") == []
