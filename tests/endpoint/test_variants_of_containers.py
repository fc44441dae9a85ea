"""Endpoints of containers that keep to the contract each in its own way, as shipped ones do.

Lists in pages with an empty last one are multi-model-server's, maps are TensorFlow's, entries
without a name and empty answers are Triton's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.endpoint.containers.running import environment
from tests.endpoint.user import User, until
from tests.endpoint.yard import Child, Yard

MANNERS: Mapping[str, Mapping[str, Any]] = {
    "multi-model-server": {"shows": "paged", "page_size": 1, "keeps_refused": True},
    "tensorflow": {"shows": "tensorflow"},
    "triton": {"shows": "triton"},
}
ROOM = 2

manners = pytest.mark.parametrize("manner", MANNERS.values(), ids=[*MANNERS])


def serve(user: User, manner: Mapping[str, Any]) -> None:
    """An endpoint of three models, of which two fit into memory."""
    for name in "abc":
        user.add(name, says=name)
    user.endpoint(user.variant(variables=environment(room=ROOM, **manner)))


def says(user: User, name: str) -> Any:
    return user.invoke(name).json["says"]


def loaded(user: User) -> list[str]:
    return [name for name in "abc" if user.loaded(name)]


@manners
def test_models_are_loaded_and_the_least_recently_used_gives_way(
    tmp_path: Path, manner: Mapping[str, Any]
) -> None:
    with Yard(tmp_path) as yard:
        serve(yard, manner)
        assert [says(yard, name) for name in "abcab"] == [*"abcab"]
        assert loaded(yard) == ["a", "b"]
        assert [event["target"] for event in yard.events("unload")] == ["a", "b", "c"]
        (stub,) = yard.stubs()
        assert len(stub.loaded()) == ROOM
        assert not yard.faults


@manners
def test_a_list_in_its_manner_says_what_is_loaded(
    tmp_path: Path, manner: Mapping[str, Any]
) -> None:
    with Yard(tmp_path, probe_interval_seconds=0.05) as yard:
        serve(yard, manner)
        says(yard, "a")
        says(yard, "b")
        (stub,) = yard.stubs()
        seen = len(stub.seen("ping"))
        stub.wait_for("ping", seen + 5)
        assert loaded(yard) == ["a", "b"]
        (gone, _) = stub.loaded()
        stub.forget(gone)
        until(lambda: len(loaded(yard)) == 1)  # two lists without it
        assert [says(yard, name) for name in "ab"] == ["a", "b"]
        assert len(yard.events("load")) == 3


@manners
def test_a_restarted_endpoint_takes_what_is_loaded_over_from_the_list(
    tmp_path: Path, manner: Mapping[str, Any]
) -> None:
    with Child(tmp_path) as child:
        serve(child, manner)
        says(child, "a")
        pid = child.invoke("b").json["pid"]
        child.kill()
        child.start()
        assert [child.invoke(name).json["pid"] for name in "ab"] == [pid, pid]
        assert loaded(child) == ["a", "b"]
        assert child.events("load") == []
        assert says(child, "c") == "c"
        assert loaded(child) == ["b", "c"]


@manners
def test_models_that_are_not_kept_leave_container_and_disk(
    tmp_path: Path, manner: Mapping[str, Any]
) -> None:
    with Yard(tmp_path) as yard:
        for name in "abc":
            yard.add(name, says=name)
        yard.endpoint(yard.variant(variables=environment(room=ROOM, **manner), keeps=False))
        assert [says(yard, name) for name in "abc"] == [*"abc"]
        until(lambda: [one["models"] for one in yard.instances()] == [[]])
        (stub,) = yard.stubs()
        assert stub.loaded() == []


@manners
def test_a_load_that_fails_is_told_in_its_words(tmp_path: Path, manner: Mapping[str, Any]) -> None:
    with Yard(tmp_path) as yard:
        serve(yard, manner)
        (stub,) = yard.stubs()
        words = '{"error": "no config.pbtxt"}'
        stub.rule("load", "answer", status=400, text=words)
        with pytest.raises(ClientError) as caught:
            yard.invoke("a")
        told: Any = caught.value.response
        assert (told["Error"]["Code"], told["OriginalStatusCode"]) == ("ModelError", 400)
        assert told["OriginalMessage"] == words
        stub.release()
        assert says(yard, "b") == "b"


def test_a_model_that_was_refused_for_memory_can_be_loaded_later(tmp_path: Path) -> None:
    with Yard(tmp_path, failed_load_seconds=0.0) as yard:
        serve(yard, MANNERS["multi-model-server"])
        (stub,) = yard.stubs()
        stub.set(room=0)
        code, message = yard.code(lambda: yard.invoke("a"))
        assert (code, "no memory" in message) == ("ModelError", True)
        stub.set(room=1)
        assert says(yard, "a") == "a"
