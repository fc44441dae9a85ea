"""Limits that make an allocation fail in the process that asks for too much, which then goes on."""

from __future__ import annotations

import resource

import pytest

from ...contract.endpoint import Endpoint, assert_error
from ...contract.server import OwnServer
from .. import inside
from ..told import load, make

Shared = tuple[OwnServer, Endpoint]
MIB = 1 << 20
LIMIT = f"max_memory_bytes = {200 * MIB}"


@pytest.mark.parametrize("order", [b"numpy 2000", b"bytes 2000", b"shared 2000"])
def test_a_request_that_takes_too_much_is_507_and_the_next_is_answered(
    shared: Shared, order: bytes
) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told", LIMIT)
    before = inside.pids(endpoint, name)
    assert_error(endpoint.invoke(name, order), 507)
    assert endpoint.invoke(name, b"bytes 1").text == "taken"
    if order != b"shared 2000":
        assert inside.pids(endpoint, name) == before


def test_small_objects_until_there_is_no_memory_are_507(shared: Shared) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told", LIMIT)
    assert_error(endpoint.invoke(name, b"objects 2000"), 507)
    assert_error(endpoint.invoke(name, b"objects 2000"), 507)
    assert endpoint.invoke(name, b"bytes 1").text == "taken"


@pytest.mark.parametrize("order", ["numpy 2000", "bytes 2000", "objects 2000"])
def test_a_load_that_takes_too_much_is_507(shared: Shared, order: str) -> None:
    own, endpoint = shared
    made = make(own.models_dir, "grows_as_told", LIMIT, LOAD=order)
    assert_error(endpoint.load_url(made.name, str(made)), 507)
    assert endpoint.get(made.name).status_code == 404


def test_child_processes_of_a_model_are_limited_too(shared: Shared) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told", LIMIT)
    message = assert_error(endpoint.invoke(name, b"child 2000"), 500)
    assert "MemoryError" in message


def test_threads_that_have_no_room_for_their_stacks_are_an_error_and_no_crash(
    shared: Shared,
) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told", f"max_memory_bytes = {16 * MIB}")
    before = inside.pids(endpoint, name)
    assert endpoint.invoke(name, b"threads 4").text == "taken"
    message = assert_error(endpoint.invoke(name, b"threads 200"), 500)
    assert "can't start new thread" in message
    assert inside.pids(endpoint, name) == before


def test_each_worker_that_shares_the_loaded_model_has_the_limit(shared: Shared) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told", f"{LIMIT}\nmin_workers = 2\nmax_workers = 2")
    before = inside.pids(endpoint, name)
    assert endpoint.get(name).json()["templatePid"] is not None
    for _ in range(4):
        assert_error(endpoint.invoke(name, b"numpy 2000"), 507)
    assert inside.pids(endpoint, name) == before


def test_a_model_without_a_limit_of_its_own_has_none(shared: Shared) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told")
    (pid,) = inside.pids(endpoint, name)
    assert endpoint.get(name).json()["settings"]["maxMemoryBytes"] == 0
    assert endpoint.invoke(name, b"bytes 300").text == "taken"
    assert resource.prlimit(pid, resource.RLIMIT_DATA)[1] == resource.RLIM_INFINITY
