"""The memory of models: predicted, admitted, measured, learned."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handlers.types import Interface, ModelPlan, ModelSettings
from model_server.accounts import Accounts
from model_server.errors import OutOfMemory
from model_server.memory.prediction import FLOOR_BYTES
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

    def __init__(self, limit: int = LIMIT, overhead: int = 0, zygote: int = 0) -> None:
        self.models: dict[str, Model] = {}
        self.accounts = Accounts(
            self.models,
            limit_bytes=limit,
            overhead_bytes=lambda: overhead,
            zygote_bytes=lambda framework, key: zygote,
        )

    def add(self, name: str, of: ModelPlan, *workers: Worker) -> Model:
        model = self.models[name] = Model(name, "/m", of, f"/{name}.sock")
        model.workers += workers
        model.move(State.READY)
        return model


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
    assert Books().accounts.admit("/m", plan(100 * MIB), "") == 100 * MIB + FLOOR_BYTES


def test_workers_that_share_count_the_weights_once() -> None:
    need = Books().accounts.admit("/m", plan(100 * MIB, min_workers=4, max_workers=4), "")
    assert need < 200 * MIB
    apart = plan(100 * MIB, min_workers=4, max_workers=4, share_weights=False)
    assert Books().accounts.admit("/m", apart, "") == 4 * (100 * MIB + FLOOR_BYTES)


def test_a_model_that_does_not_fit_with_all_others_is_refused() -> None:
    books = Books(overhead=200 * MIB)
    books.add("other", plan(), worker(0)).held_bytes = 500 * MIB
    assert books.accounts.admit("/m", plan(250 * MIB), "")
    with pytest.raises(OutOfMemory, match="300 MiB is free"):
        books.accounts.admit("/m", plan(350 * MIB), "")


def test_the_zygote_that_a_load_would_start_must_fit_too_but_is_not_the_models() -> None:
    books = Books(zygote=600 * MIB)
    assert books.accounts.admit("/m", plan(300 * MIB), "") == 300 * MIB + FLOOR_BYTES
    with pytest.raises(OutOfMemory):
        books.accounts.admit("/m", plan(500 * MIB), "")


def test_what_a_directory_took_is_learned_for_its_next_load() -> None:
    books = Books()
    model = books.add("m", plan(10 * MIB), worker(700 * MIB))
    books.accounts.settle(model)
    assert model.held_bytes == 700 * MIB
    del books.models["m"]
    assert books.accounts.admit("/m", plan(10 * MIB), "") == 700 * MIB
    assert books.accounts.admit("/n", plan(10 * MIB, directory="/n"), "") < 100 * MIB


def test_what_is_learned_of_one_number_of_workers_is_not_believed_of_another() -> None:
    books = Books()
    books.accounts.settle(books.add("m", plan(10 * MIB), worker(300 * MIB)))
    del books.models["m"]
    assert books.accounts.admit("/m", plan(10 * MIB, min_workers=2, max_workers=2), "") < 100 * MIB


def test_a_model_that_has_grown_does_not_teach_what_a_load_takes() -> None:
    books = Books()
    grown = books.add("m", plan(10 * MIB, max_workers=3), worker(100 * MIB), worker(100 * MIB))
    books.accounts.settle(grown)
    assert grown.held_bytes == 200 * MIB
    del books.models["m"]
    assert books.accounts.admit("/m", plan(10 * MIB, max_workers=3), "") < 100 * MIB


def test_the_template_counts_with_its_model() -> None:
    books = Books()
    model = books.add("m", plan(max_workers=2), worker(5 * MIB))
    model.template = worker(400 * MIB)
    books.accounts.settle(model)
    assert model.held_bytes == 405 * MIB


def test_one_more_worker_takes_as_much_as_the_largest_there_is() -> None:
    books = Books()
    model = books.add("m", plan(max_workers=9), worker(50 * MIB), worker(300 * MIB))
    assert books.accounts.admit_worker(model) == 300 * MIB
    books.accounts.settle(model)
    model.held_bytes += 400 * MIB
    with pytest.raises(OutOfMemory):
        books.accounts.admit_worker(model)


def test_a_model_that_took_more_than_there_was_is_found_out() -> None:
    books = Books()
    model = books.add("m", plan(), worker(1100 * MIB))
    books.accounts.settle(model)
    with pytest.raises(OutOfMemory, match="100 MiB more than there was"):
        books.accounts.check(model)


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
