"""Limits that make an allocation fail in the process that asks for too much, which then goes on."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.types import HandlerOptions, Interface, ModelPlan
from model_server import wire
from model_server.processes.data_limit import limit_growth, limit_load

from ...contract.endpoint import Endpoint, assert_error
from ...contract.server import OwnServer
from .. import inside
from ..told import load, make
from ..yard_parts import nursery, run

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


def test_a_process_that_has_used_up_its_limit_says_so_and_goes_on(short_path: Path) -> None:
    async def work() -> None:
        async with nursery(short_path) as here:
            here.data_limit_bytes = 20 * MIB
            worker = await here.fork("grows_as_told")
            for _ in range(3):
                head, reply = await worker.ask(b"objects 2000")
                assert head.status == 507 and b"max_memory_bytes" in reply
            assert (await worker.ask(b"nothing"))[1] == b"taken"
            assert (await worker.ask(b"numpy 2000"))[0].status == 507
            assert here.code_of(worker.pid) is None
            worker.leash.close()

    run(work())


def test_weights_that_are_mapped_may_be_larger_than_the_limit(short_path: Path) -> None:
    (short_path / "model").mkdir()
    with (short_path / "model" / "weights").open("wb") as file:
        file.truncate(300 * MIB)
    spec = wire.WorkerSpec(
        1,
        0,
        "m",
        ModelPlan("", "python", Interface.DEFAULT, weight_bytes=300 * MIB),
        HandlerOptions(),
        data_limit_bytes=10 * MIB,
    )
    told = in_a_fork(lambda: _map_then_take(spec, short_path / "model" / "weights"))
    assert told == "mapped, took 50, no more"


def _map_then_take(spec: wire.WorkerSpec, weights: Path) -> str:
    """What is said of a load that maps its weights, and then takes more than its limit."""
    limit_load(spec)
    with weights.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    limit_growth(spec, 0)
    kept = [b"x" * (50 * MIB)]
    try:
        kept.append(b"x" * (100 * MIB))
    except MemoryError:
        return f"mapped, took {len(kept[0]) // MIB}, no more"
    return f"took {len(kept)} with {len(mapping)}"


def in_a_fork(work: Callable[[], str]) -> str:
    """What it says in a process of its own."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.wait()
    return said


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


def test_a_model_without_a_limit_of_its_own_may_take_what_all_have(shared: Shared) -> None:
    own, endpoint = shared
    name = load(endpoint, own, "grows_as_told")
    (pid,) = inside.pids(endpoint, name)
    assert endpoint.get(name).json()["settings"]["maxMemoryBytes"] == 0
    assert endpoint.invoke(name, b"bytes 300").text == "taken"
    soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    assert 300 * MIB < soft != resource.RLIM_INFINITY == hard
