"""Models on GPUs that are numbers in a file: each GPU has a ledger of its own, apart from RAM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from model_server.errors import OutOfMemory
from model_server.eviction_counts import EvictionCounts
from model_server.gpus import Gpu, NoGpus
from model_server.memory.decisions import DecisionLog
from model_server.memory.ledger import RAM
from model_server.memory.plan import Victim
from model_server.memory.policies import POLICIES
from model_server.model import State
from model_server.room import Room

from ..contract.endpoint import assert_error
from ..contract.polling import eventually
from . import inside
from .conftest import Yard
from .test_accounts import Books, plan
from .tight import MIB, Tight, names, tight_yard
from .traffic import Traffic

GIB_MB = 1024
OnGpus = Callable[..., Tight]


@pytest.fixture
def on_gpus(yard: Yard, tmp_path: Path, threads: ThreadPoolExecutor) -> OnGpus:
    """Starts a server with GPUs of these sizes, in MB, and RAM for many models."""

    def begin(*sizes: int, models: int = 20, **settings: str) -> Tight:
        processes = tmp_path / "processes"
        processes.mkdir()
        table = tmp_path / "gpus.json"
        gpus = [{"name": "G", "total_bytes": size * MIB} for size in sizes]
        table.write_text(json.dumps({"gpus": gpus, "process_dir": str(processes)}))
        return tight_yard(
            yard, tmp_path, threads, models, MODELYARD_GPU_PROBE=str(table), **settings
        )

    return begin


def load(server: Tight, gpu_mb: int, settings: str = "", **told: Any) -> str:
    """The name of a model that takes so much of a GPU, loaded."""
    folder = server.directory / "processes"
    return server.load(settings, mb=told.pop("mb", 1), GPU_DIR=folder, GPU_MB=gpu_mb, **told)


def test_two_models_that_do_not_fit_one_gpu_take_turns_and_no_request_is_lost(
    on_gpus: OnGpus,
) -> None:
    server = on_gpus(4 * GIB_MB)
    both = [load(server, 3 * GIB_MB) for _ in range(2)]
    assert server.becomes(both[0], "EVICTED") and server.state(both[1]) == "READY"
    assert [server.endpoint.invoke(name).json()["gpu"] for name in (*both, *both)] == [0] * 4
    assert [server.loads(name) for name in both] == [3, 3]
    made = server.decision(both[0])
    assert names(made["victims"]) == [both[1]]
    assert made["victims"][0]["ledger"] == "gpu0"
    assert made["victims"][0]["freedBytes"] == 3 * GIB_MB * MIB
    assert made["needBytes"]["gpu0"] == 3 * GIB_MB * MIB
    with Traffic(server.own, both[0], clients=2) as one, Traffic(server.own, both[1]) as other:
        one.wait_for_more(20)
    assert (one.failed, other.failed) == (0, 0), one.messages | other.messages


def test_what_a_gpu_holds_is_back_when_its_model_is_evicted_or_unloaded(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB)
    first = load(server, 3 * GIB_MB)
    assert server.ledger("gpu0")["heldBytes"] == 3 * GIB_MB * MIB
    second = load(server, 2 * GIB_MB)
    assert server.becomes(first, "EVICTED")
    ledger = server.ledger("gpu0")
    assert (ledger["heldBytes"], ledger["leavingBytes"]) == (2 * GIB_MB * MIB, 0)
    assert server.known(first)["heldBytes"]["gpu0"] == 3 * GIB_MB * MIB  # when it was there
    assert server.endpoint.unload(second).status_code == 200
    assert server.ledger("gpu0")["heldBytes"] == 0
    assert server.endpoint.invoke(first).status_code == 200


def test_models_go_where_there_is_room(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, 8 * GIB_MB)
    models = [load(server, 3 * GIB_MB) for _ in range(3)]
    where = [server.endpoint.get(name).json()["gpu"] for name in models]
    assert sorted(where) == [0, 1, 1] and where[0] == 1
    assert [server.endpoint.invoke(name).json()["gpu"] for name in models] == where
    assert {server.state(name) for name in models} == {"READY"}
    assert server.ledger("gpu0")["heldBytes"] == 3 * GIB_MB * MIB
    assert server.ledger("gpu1")["heldBytes"] == 6 * GIB_MB * MIB


def test_a_model_may_be_kept_off_the_gpus_or_on_one(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, 4 * GIB_MB)
    beside = load(server, 3 * GIB_MB, 'device = "cpu"')
    first = load(server, 3 * GIB_MB, 'device = "cuda:1"')
    second = load(server, 3 * GIB_MB, 'device = "cuda:1"')
    answers = [server.endpoint.invoke(name).json()["gpu"] for name in (beside, second)]
    assert answers == [None, 1]
    assert server.becomes(first, "EVICTED") and server.state(beside) == "READY"
    assert server.ledger("gpu0")["heldBytes"] == 0


def test_a_full_gpu_makes_nobody_leave_ram_and_full_ram_nobody_who_holds_none(
    on_gpus: OnGpus,
) -> None:
    server = on_gpus(4 * GIB_MB, models=2)
    on_cpu = server.load('device = "cpu"')
    on_gpu = load(server, 3 * GIB_MB)
    other = load(server, 3 * GIB_MB)
    assert server.becomes(on_gpu, "EVICTED")
    assert [server.state(name) for name in (on_cpu, other)] == ["READY", "READY"]
    server.rest(on_cpu, other)
    assert server.endpoint.invoke(other).status_code == 200
    assert eventually(lambda: server.known(other)["uses"] == 1)
    large = server.load('device = "cpu"', mb=80)
    made = server.decision(large)
    assert names(made["victims"]) == [on_cpu]
    assert set(made["needBytes"]) == {"ram"}
    assert server.state(other) == "READY"


def test_what_is_larger_than_a_gpu_is_507_with_its_name(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, models=200)  # RAM for its weights
    kept = load(server, GIB_MB)
    made = server.made(mb=6 * GIB_MB, HOLDS_MB=1, GPU_DIR=server.directory, GPU_MB=1)
    message = assert_error(server.endpoint.load_url(made.name, str(made)), 507)
    assert f"the model needs about {6 * GIB_MB + 500} MiB on gpu0" in message
    assert "more than all models may take there: 3891 MiB" in message
    assert server.state(kept) == "READY"


def test_a_model_that_was_parked_comes_back_in_the_same_process(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, models=200)  # RAM for what is parked
    folder = server.directory / "processes"
    moves = server.directory / "moves"
    name = server.load(
        mb=1, behaviour="parks", GPU_DIR=folder, GPU_BYTES=3 * GIB_MB * MIB, MOVES=moves
    )
    (process,) = inside.pids(server.endpoint, name)
    for _ in range(2):
        other = load(server, 3 * GIB_MB)
        assert server.becomes(name, "PARKED")
        rest = server.known(name)["heldBytes"]["gpu0"]  # of the process itself
        assert rest < 100 * MIB
        assert server.ledger("gpu0")["heldBytes"] == 3 * GIB_MB * MIB + rest
        answers = [server.begin(name) for _ in range(4)]
        assert {answer.result().text for answer in answers} == {
            json.dumps({"pid": process, "on_gpu": True})
        }
        assert server.becomes(other, "EVICTED")
        assert server.state(name) == "READY"
        assert server.ledger("gpu0")["heldBytes"] == 3 * GIB_MB * MIB
    assert moves.read_text().split()[::2] == ["park", "restore"] * 2


def test_a_parked_model_whose_process_is_killed_is_loaded_again(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, models=200)  # RAM for what is parked
    folder, moves = server.directory / "processes", server.directory / "moves"
    told: dict[str, Any] = {"GPU_DIR": folder, "GPU_BYTES": 3 * GIB_MB * MIB, "MOVES": moves}
    name = server.load(mb=1, behaviour="parks", **told)
    load(server, 3 * GIB_MB)
    assert server.becomes(name, "PARKED")
    inside.kill(*inside.pids(server.endpoint, name))
    assert server.becomes(name, "EVICTED")
    assert server.endpoint.invoke(name).json()["on_gpu"]
    assert server.endpoint.unload(name).status_code == 200


@dataclass
class OnOneGpu:
    """A room whose GPU the test fills; who is evicted goes on leaving."""

    count: int
    gone: list[str] = field(default_factory=list)
    books: Books = field(default_factory=lambda: Books(gpu_limit=1000 * MIB, gpus=Unseen()))

    def __post_init__(self) -> None:
        self.room = Room(
            self.books.models,
            self.books.accounts,
            POLICIES["lru"],
            wait_seconds=0.1,
            log=DecisionLog(),
            counts=EvictionCounts(),
            evict=self.evict,
        )
        for number in range(self.count):
            model = self.books.add(f"m{number}", plan(), gpu=0)
            model.hold({RAM: MIB, "gpu0": 1000 * MIB // self.count})
            model.resident.usage.used(float(number))
        self.books.look()
        self.last = model

    def evict(self, victim: Victim) -> None:
        model = self.books.models[victim.resident.name]
        model.move(State.EVICTING)
        model.leaves = tuple(model.resident.held)
        self.gone.append(model.name)

    def free(self) -> list[str]:
        """For a request of the last model that found its GPU full."""
        return asyncio.run(self.room.free_device(self.last))


class Unseen(NoGpus):
    """A GPU that does not tell who uses it."""

    knows_processes = False
    there = True

    def devices(self) -> Sequence[Gpu]:
        return (Gpu(0, "G", 1000 * MIB, 1000 * MIB),) if self.there else ()


def test_requests_that_find_a_gpu_full_at_once_share_what_leaves_it() -> None:
    here = OnOneGpu(12)
    assert [here.free() for _ in range(5)] == [["m0"]] * 5
    coming = here.books.add("coming", plan(pinned=True), gpu=0)
    coming.hold({RAM: MIB, "gpu0": 80 * MIB})
    coming.reserved = True  # what leaves is for it
    assert here.free() == ["m0", "m1"]
    assert here.gone == ["m0", "m1"]


def test_a_request_that_found_a_gpu_full_does_not_wait_for_who_leaves_elsewhere() -> None:
    here = OnOneGpu(12)
    elsewhere = here.books.add("elsewhere", plan())
    elsewhere.hold({RAM: MIB})
    elsewhere.move(State.EVICTING)
    elsewhere.leaves = (RAM,)
    assert here.free() == ["m0"]


def test_of_a_gpu_that_has_vanished_nothing_can_be_freed() -> None:
    gpus = Unseen()
    here = OnOneGpu(3, books=Books(gpu_limit=1000 * MIB, gpus=gpus))
    gpus.there = False
    here.books.look()
    here.last.hold({RAM: MIB, "gpu0": MIB})
    with pytest.raises(OutOfMemory, match="not the server's to free"):
        here.free()
    new = here.books.add("new", plan())
    asyncio.run(here.room.take(new, {RAM: MIB, "gpu0": MIB}, "load"))
    assert here.gone == []


def parks(server: Tight, gpu_mb: int, rest_mb: int = 1, **told: Any) -> str:
    """The name of a model that can be parked and keeps so much of the GPU then, loaded."""
    return server.load(
        mb=1,
        behaviour="parks",
        GPU_DIR=server.directory / "processes",
        GPU_BYTES=gpu_mb * MIB,
        REST_BYTES=rest_mb * MIB,
        MOVES=server.directory / "moves",
        **told,
    )


def moves(server: Tight) -> list[str]:
    """Who was parked and brought back, in this order."""
    return (server.directory / "moves").read_text().split()[::2]


def test_what_a_parked_process_keeps_of_its_gpu_is_not_needed_once_more(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, models=200)
    name = parks(server, 3584, rest_mb=500)
    server.rest(name)
    other = load(server, 3 * GIB_MB)
    assert server.becomes(name, "PARKED")
    assert server.ledger("gpu0")["heldBytes"] == (3 * GIB_MB + 500) * MIB
    assert server.endpoint.unload(other).status_code == 200
    assert server.endpoint.invoke(name).status_code == 200
    assert moves(server) == ["park", "restore"]
    assert server.decision(name)["needBytes"] == {"gpu0": (3584 - 500) * MIB}


def test_who_cannot_be_unparked_gives_up_what_it_keeps_and_comes_from_disk_later(
    on_gpus: OnGpus,
) -> None:
    server = on_gpus(4 * GIB_MB, models=200)
    name = parks(server, 3 * GIB_MB)
    server.rest(name)
    pinned = load(server, 3 * GIB_MB, "pinned = true")
    assert server.becomes(name, "PARKED")
    message = assert_error(server.endpoint.invoke(name), 507)
    assert "pinned" in message
    assert server.state(name) == "EVICTED"
    assert server.ledger("gpu0")["heldBytes"] == 3 * GIB_MB * MIB
    assert server.endpoint.unload(pinned).status_code == 200
    assert server.endpoint.invoke(name).json()["on_gpu"]
    assert moves(server) == ["park"]


def test_who_cannot_be_unparked_is_loaded_where_there_is_room(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, 3 * GIB_MB + 512, models=200)
    name = parks(server, 3 * GIB_MB)
    server.rest(name)
    load(server, 3 * GIB_MB, 'device = "cuda:0"\npinned = true')
    assert server.becomes(name, "PARKED")
    assert server.endpoint.invoke(name).status_code == 200
    assert server.endpoint.get(name).json()["gpu"] == 1
    assert moves(server) == ["park"]


def test_the_copy_that_parking_left_in_ram_is_counted_once(on_gpus: OnGpus) -> None:
    server = on_gpus(1200, models=30)
    name = parks(server, 800, COPY_BYTES=800 * MIB)
    first = server.known(name)["heldBytes"]["ram"]
    others = []
    for _ in range(2):
        server.rest(name)
        others.append(load(server, 400))
        assert server.becomes(name, "PARKED")
        held = server.known(name)["heldBytes"]["ram"]
        assert 790 * MIB < held - first < 830 * MIB
        for other in others:
            server.endpoint.unload(other)
        assert server.endpoint.invoke(name).json()["on_gpu"]
    assert moves(server) == ["park", "restore"] * 2
    server.endpoint.unload(name)


def test_a_parking_that_fails_is_told_as_the_eviction_that_it_became(on_gpus: OnGpus) -> None:
    server = on_gpus(4 * GIB_MB, models=200)
    name = parks(server, 3 * GIB_MB, FAILS="park")
    server.rest(name)
    new = load(server, 3 * GIB_MB)
    assert server.becomes(name, "EVICTED")
    (victim,) = server.decision(new)["victims"]
    assert (victim["move"], victim["reason"]) == ("evict", "could not be parked")
    assert victim["freedBytes"] == 3 * GIB_MB * MIB
    told = [
        line
        for line in server.endpoint.send("GET", "/metrics").text.splitlines()
        if line.startswith("modelyard_evictions_total{") and not line.endswith(" 0")
    ]
    assert len(told) == 1 and 'move="evict"' in told[0], told
