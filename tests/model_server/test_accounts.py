"""The memory of models: predicted, admitted, measured, learned."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.types import Interface, ModelPlan, ModelSettings
from model_server import accounts
from model_server.accounts import USABLE_GPU_SHARE, Accounts
from model_server.gpus import Gpu, GpuProbe, NoGpus, TableOfGpus
from model_server.learned import Learned
from model_server.memory.ledger import RAM
from model_server.memory.prediction import FLOOR_BYTES, GPU_FLOOR_BYTES
from model_server.model import Model, State, Worker
from model_server.processes.fork_channel import ForkChannel
from model_server.stats import SLOT_FIELDS

MIB = 1 << 20
LIMIT = 1000 * MIB


def plan(weights: int = 0, directory: str = "/m", **settings: Any) -> ModelPlan:
    return ModelPlan(
        directory,
        "python",
        Interface.SAGEMAKER,
        weight_bytes=weights,
        settings=ModelSettings(**settings),
    )


def worker(private_bytes: int, pid: int = 0) -> Worker:
    slot = memoryview(bytearray(8 * SLOT_FIELDS)).cast("Q")
    loop = asyncio.new_event_loop()
    try:
        word, exited = loop.create_future(), loop.create_future()
    finally:
        loop.close()
    leash = socket.socket()
    leash.close()
    return Worker(1, 0, slot, leash, word, exited, pid=pid, ready=True, private_bytes=private_bytes)


class Books:
    """Accounts of models that the test puts into the table."""

    def __init__(
        self,
        limit: int = LIMIT,
        overhead: int = 0,
        zygote: int = 0,
        gpus: GpuProbe | None = None,
        gpu_limit: int | None = None,
    ) -> None:
        self.models: dict[str, Model] = {}
        self.learned = Learned()
        self.accounts = Accounts(
            self.models,
            limit_bytes=limit,
            gpu_limit_bytes=gpu_limit,
            overhead_bytes=lambda: overhead,
            zygote_bytes=lambda framework, key: zygote,
            learned=self.learned,
            gpus=gpus or NoGpus(),
        )

    def add(self, name: str, of: ModelPlan, *workers: Worker, gpu: int | None = None) -> Model:
        model = self.models[name] = Model(name, "/m", of, f"/{name}.sock")
        model.workers += workers
        model.gpu = gpu
        model.move(State.READY)
        return model

    def need(self, of: ModelPlan, url: str = "/m", gpu: int | None = None) -> dict[str, int]:
        """What a model that is not there yet is predicted to take."""
        model = Model("new", url, of, "/new.sock")
        model.gpu = gpu
        return self.accounts.need(model)

    def look(self) -> None:
        asyncio.run(self.accounts.look_at_gpus())


@contextmanager
def process_holding(megabytes: int) -> Iterator[int]:
    """The pid of a process that has written to so much memory of its own."""
    code = f"data = b'x' * {megabytes << 20}; print('there', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_model_is_predicted_to_take_its_weights_and_a_floor() -> None:
    assert Books().need(plan(100 * MIB)) == {RAM: 100 * MIB + FLOOR_BYTES}


def test_workers_that_share_count_the_weights_once() -> None:
    need = Books().need(plan(100 * MIB, min_workers=4, max_workers=4))
    assert need[RAM] < 200 * MIB
    apart = plan(100 * MIB, min_workers=4, max_workers=4, share_weights=False)
    assert Books().need(apart) == {RAM: 4 * (100 * MIB + FLOOR_BYTES)}


def test_what_models_hold_and_what_is_leaving_are_told_apart() -> None:
    books = Books(overhead=200 * MIB)
    books.add("stays", plan()).hold({RAM: 300 * MIB})
    leaving = books.add("leaves", plan())
    leaving.hold({RAM: 100 * MIB})
    leaving.leaves = (RAM,)
    ledger = books.accounts.ledger()
    assert (ledger.held_bytes, ledger.leaving_bytes) == (300 * MIB, 100 * MIB)
    assert ledger.free_bytes == 500 * MIB  # once that has left


def test_what_a_directory_took_is_learned_for_its_next_load() -> None:
    books = Books()
    model = books.add("m", plan(10 * MIB), worker(700 * MIB))
    books.accounts.settle(model)
    assert model.held_bytes == 700 * MIB
    assert books.need(plan(10 * MIB)) == {RAM: 700 * MIB}


def test_what_one_model_took_teaches_what_others_of_its_framework_will() -> None:
    books = Books()
    before = books.need(plan(100 * MIB), "/n")[RAM]
    for name in ("a", "b", "c"):
        model = books.add(name, plan(100 * MIB), worker(400 * MIB))
        model.url = f"/{name}"
        books.accounts.settle(model)
    assert books.need(plan(100 * MIB), "/n")[RAM] > 2 * before


def test_what_is_learned_of_one_number_of_workers_is_not_believed_of_another() -> None:
    books = Books()
    books.accounts.settle(books.add("m", plan(10 * MIB), worker(300 * MIB)))
    two = books.need(plan(10 * MIB, min_workers=2, max_workers=2))
    assert two[RAM] != 300 * MIB


def test_a_model_that_has_grown_does_not_teach_what_a_load_takes() -> None:
    books = Books()
    grown = books.add("m", plan(10 * MIB, max_workers=3), worker(100 * MIB), worker(100 * MIB))
    books.accounts.settle(grown)
    assert grown.held_bytes == 200 * MIB
    assert books.need(plan(10 * MIB, max_workers=3))[RAM] < 100 * MIB


def test_a_worker_that_is_on_its_way_keeps_what_is_reserved_for_it() -> None:
    books = Books()
    coming = worker(0)
    coming.ready = False
    model = books.add("m", plan(max_workers=2), worker(100 * MIB), coming)
    model.hold({RAM: 220 * MIB})
    books.accounts.settle(model)  # somebody asks for the model's sizes meanwhile
    assert model.held_bytes == 220 * MIB
    coming.ready, coming.private_bytes = True, 90 * MIB
    books.accounts.settle(model)
    assert model.held_bytes == 190 * MIB


def test_the_template_counts_with_its_model() -> None:
    books = Books()
    model = books.add("m", plan(max_workers=2), worker(5 * MIB))
    model.template = worker(400 * MIB)
    books.accounts.settle(model)
    assert model.held_bytes == 405 * MIB


def test_one_more_worker_takes_as_much_as_the_largest_there_is() -> None:
    books = Books()
    model = books.add("m", plan(max_workers=9), worker(50 * MIB), worker(300 * MIB))
    assert books.accounts.worker_need(model) == {RAM: 300 * MIB}


def test_a_model_that_took_more_than_there_was_is_found_out() -> None:
    books = Books()
    model = books.add("m", plan(), worker(900 * MIB))
    books.accounts.settle(model)
    assert not books.accounts.check(model)
    model.workers[0].private_bytes = 1100 * MIB
    books.accounts.settle(model)
    assert "100 MiB more than there is" in books.accounts.check(model)


def test_processes_are_measured_as_they_are() -> None:
    books = Books()
    with process_holding(64) as pid:
        measured = worker(0, pid)
        model = books.add("m", plan(), measured)
        asyncio.run(books.accounts.measure(model, [measured]))
        assert 64 * MIB <= measured.private_bytes < 100 * MIB
        assert model.held_bytes == measured.private_bytes


def test_a_process_that_is_gone_keeps_its_last_measure() -> None:
    books = Books()
    with process_holding(1) as pid:
        pass
    gone = worker(77 * MIB, pid)
    asyncio.run(books.accounts.measure(books.add("m", plan(), gone), [gone]))
    assert gone.private_bytes == 77 * MIB


def test_what_a_template_shares_is_counted_while_it_lives() -> None:
    async def work() -> None:
        books = Books()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template = worker(400 * MIB, os.getpid())
        template.forks = ForkChannel(
            near, on_worker_exit=lambda pid, code: None, on_gone=lambda: None
        )
        model = books.add("m", plan(max_workers=2), worker(5 * MIB))
        model.template = template
        await books.accounts.measure(model, [template])
        assert model.held_bytes >= 405 * MIB
        template.forks.close()
        far.close()

    asyncio.run(work())


# --- GPUs -----------------------------------------------------------------------------------------

GIB = 1 << 30


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., TableOfGpus]:
    """Two GPUs of 10 GiB; ``processes`` says what is used on them, by pid."""

    def write(processes: dict[str, Any] | None = None, **more: Any) -> TableOfGpus:
        gpus = [{"name": "G", "total_bytes": 10 * GIB, "used_bytes": more.pop("used", 0)}] * 2
        path = tmp_path / "gpus.json"
        path.write_text(json.dumps({"gpus": gpus, "processes": processes or {}, **more}))
        return TableOfGpus(str(path))

    return write


Table = Callable[..., TableOfGpus]


def test_each_gpu_has_a_ledger_and_others_on_it_are_not_the_models(table: Table) -> None:
    books = Books(gpus=table({"7": {"0": 3 * GIB}, "8": {"0": GIB}}, used=GIB))
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    books.look()
    ledgers = books.accounts.ledgers()
    assert set(ledgers) == {RAM, "gpu0", "gpu1"}
    assert ledgers["gpu0"].limit_bytes == int(10 * GIB * USABLE_GPU_SHARE)
    assert (ledgers["gpu0"].held_bytes, ledgers["gpu0"].overhead_bytes) == (3 * GIB, 2 * GIB)
    assert (ledgers["gpu1"].held_bytes, ledgers["gpu1"].overhead_bytes) == (0, GIB)
    assert model.resident.held == {RAM: MIB, "gpu0": 3 * GIB}


def test_a_process_that_has_ended_since_the_last_look_is_not_taken_for_somebody_elses(
    table: Table,
) -> None:
    books = Books(gpus=table({"7": {"0": 8 * GIB}}))
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    books.look()
    model.workers.clear()
    model.hold({})
    assert books.accounts.ledgers()["gpu0"].models_bytes == int(10 * GIB * USABLE_GPU_SHARE)


def test_gpus_that_do_not_tell_who_uses_what_are_booked_by_prediction(table: Table) -> None:
    books = Books(gpus=table({"7": {"0": 3 * GIB}}, used=GIB, knows_processes=False))
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    model.hold({RAM: MIB, "gpu0": 2 * GIB})
    books.look()
    ledger = books.accounts.ledgers()["gpu0"]
    assert (ledger.held_bytes, ledger.overhead_bytes) == (2 * GIB, GIB)


def test_a_model_that_takes_nothing_of_its_gpu_is_charged_nothing(table: Table) -> None:
    books = Books(gpus=table())
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    model.hold({RAM: MIB, "gpu0": 2 * GIB})
    model.workers[0].ready_ns = time.monotonic_ns() + 10**12
    books.look()  # which may have been before it took anything
    assert model.resident.held == {RAM: MIB, "gpu0": 2 * GIB}
    model.workers[0].ready_ns = 0
    books.look()
    assert model.resident.held == {RAM: MIB, "gpu0": 0}


def test_the_limit_of_a_gpu_may_be_set(table: Table) -> None:
    books = Books(gpus=table(), gpu_limit=GIB)
    books.look()
    assert books.accounts.ledgers()["gpu1"].limit_bytes == GIB


def test_models_are_placed_where_there_is_room_and_need_host_and_device(table: Table) -> None:
    books = Books(gpus=table({"7": {"0": 8 * GIB}}))
    assert books.accounts.place("/m", plan(GIB)) is None  # nobody has looked yet
    books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    books.look()
    assert books.accounts.place("/n", plan(2 * GIB)) == 1
    assert books.accounts.place("/n", plan(2 * GIB, device="cuda:0")) == 0
    assert books.accounts.place("/n", plan(2 * GIB, device="cpu")) is None
    need = books.need(plan(2 * GIB), "/n", gpu=1)
    assert set(need) == {RAM, "gpu1"} and need["gpu1"] == 2 * GIB + GPU_FLOOR_BYTES


def test_a_ledger_that_others_have_filled_is_no_fault_of_a_model_elsewhere(table: Table) -> None:
    books = Books(gpus=table({"8": {"0": 10 * GIB}}))
    on_cpu = books.add("m", plan(), worker(MIB))
    on_gpu = books.add("g", plan(), worker(MIB, pid=7), gpu=0)
    on_gpu.hold({RAM: MIB, "gpu0": MIB})
    on_gpu.workers[0].ready_ns = time.monotonic_ns() + 10**12
    books.look()
    books.accounts.settle(on_cpu)
    assert not books.accounts.check(on_cpu)
    assert "of gpu0" in books.accounts.check(on_gpu)


class Driver:
    """One GPU of 24 GiB, of which a process uses as much as ``ours``; may break or hang."""

    def __init__(self, pid: int, ours: int, others: int = 0) -> None:
        self.failed: str | None = None
        self.knows_processes = True
        self.there = True
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        self._pid, self._ours, self._others = pid, ours, others

    def devices(self) -> Sequence[Gpu]:
        self.asked += 1
        self.answers.wait()
        return (Gpu(0, "G", 24 * GIB, self._ours + self._others),) if self.there else ()

    def process_bytes(self) -> dict[int, dict[int, int]]:
        return {self._pid: {0: self._ours}} if self.knows_processes else {}

    def breaks(self) -> None:
        """As when NVML is lost."""
        self.failed, self.knows_processes = "GPU is lost", False


def test_when_the_driver_breaks_the_last_numbers_stay_and_nothing_is_learned() -> None:
    driver = Driver(7, 20 * GIB, others=GIB)
    books = Books(gpus=driver)
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    books.look()
    books.accounts.settle(model)
    before = books.accounts.ledgers()["gpu0"]
    assert (before.held_bytes, before.overhead_bytes) == (20 * GIB, GIB)
    driver.breaks()
    books.look()
    assert books.accounts.ledgers()["gpu0"] == before
    model.hold({RAM: MIB, "gpu0": 9 * GIB})  # as expected, and not seen
    books.accounts.settle(model)
    assert model.resident.held["gpu0"] == 9 * GIB
    assert books.need(plan(), gpu=0)["gpu0"] == 20 * GIB


def test_a_driver_that_does_not_answer_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounts, "LOOK_LIMIT_SECONDS", 0.05)
    driver = Driver(7, GIB)
    books = Books(gpus=driver)
    books.add("m", plan(), worker(MIB, pid=7), gpu=0)

    async def work() -> None:
        look = books.accounts.look_at_gpus
        await look()
        driver.answers.clear()
        asked = driver.asked
        await look()
        await asyncio.gather(look(), look())
        assert driver.asked == asked + 1  # it has not answered yet
        assert books.accounts.ledgers()["gpu0"].held_bytes == GIB
        driver.answers.set()
        monkeypatch.setattr(accounts, "LOOK_LIMIT_SECONDS", 10.0)
        await look()
        assert driver.asked == asked + 2  # the one that hung was not of now

    asyncio.run(work())


def test_a_gpu_that_vanishes_takes_only_its_ledger_along() -> None:
    driver = Driver(7, GIB)
    books = Books(gpus=driver)
    model = books.add("m", plan(max_workers=2), worker(MIB, pid=7), gpu=0)
    books.look()
    driver.there = False
    books.look()
    model.hold({RAM: MIB, "gpu0": GIB})
    assert set(books.accounts.ledgers()) == {RAM}
    assert set(books.accounts.worker_need(model)) == {RAM}
    assert not books.accounts.check(model)


def test_a_copy_that_parking_left_in_ram_is_not_learned() -> None:
    books = Books()
    model = books.add("m", plan(), worker(50 * MIB))
    books.accounts.settle(model, 0.2)
    model.resident.unparked_bytes = 55 * MIB
    model.workers[0].private_bytes = 120 * MIB
    books.accounts.settle(model)
    assert books.need(plan())[RAM] == 55 * MIB
    model.workers[0].private_bytes = 60 * MIB
    books.accounts.settle(model, 0.2)  # it was loaded anew
    assert books.need(plan())[RAM] == 60 * MIB


def test_what_a_parked_process_keeps_is_not_leaving_while_it_is_parked() -> None:
    books = Books(gpus=Driver(7, 10 * GIB))
    model = books.add("m", plan(), worker(MIB, pid=7), gpu=0)
    books.look()
    model.resident.parked_device_bytes = GIB
    model.move(State.EVICTING)
    model.leaves = ("gpu0",)
    ledger = books.accounts.ledgers()["gpu0"]
    assert (ledger.held_bytes, ledger.leaving_bytes) == (GIB, 9 * GIB)
    model.leaves = (RAM, "gpu0")
    ledger = books.accounts.ledgers()["gpu0"]
    assert (ledger.held_bytes, ledger.leaving_bytes) == (0, 10 * GIB)
