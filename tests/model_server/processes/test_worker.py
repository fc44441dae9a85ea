"""One model's process, forked from a real zygote and spoken to over its socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from model_server import wire
from model_server.stats import BUSY_SINCE_NS, FAILED, FINISHED, REQUEST_KEY, SKIPPED, STARTED
from model_server.wire import InvokeHead, frame_head

from ...contract.endpoint import BEHAVIOURS
from ...contract.processes import stopped
from ..yard_parts import Nursery, nursery, run, until

LONG_TEXT = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): raise ValueError("x" * 1_000_000)
"""


def add(yard: Nursery, name: str, code: str) -> None:
    script = yard.directory / name / "code" / "inference.py"
    script.parent.mkdir(parents=True)
    script.write_text(code)


def test_counters_follow_each_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("sleeps")
            await worker.ask(b"0")
            await worker.ask(b"not a number")
            await until(lambda: worker.slot[FINISHED] == 2)
            assert (worker.slot[STARTED], worker.slot[FAILED]) == (2, 1)
            assert (worker.slot[BUSY_SINCE_NS], worker.slot[REQUEST_KEY]) == (0, 1)
            worker.leash.close()

    run(work())


def test_a_request_that_waited_and_was_given_up_is_skipped(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("echo")
            long_ago = time.monotonic_ns() - 1_000_000_000
            with stopped(worker.pid), socket.socket(socket.AF_UNIX) as given_up:
                given_up.connect(worker.path)
                given_up.sendall(frame_head(InvokeHead(1, long_ago, "", ()), 0))
                given_up.close()  # before the worker can look
            await until(lambda: worker.slot[SKIPPED] == 1)
            assert worker.slot[STARTED] == 0
            assert (await worker.ask(b"x", sent_ns=long_ago))[1] == b"x"
            worker.leash.close()

    run(work())


def test_clients_that_hang_up_at_any_point_do_not_end_it(tmp_path: Path) -> None:
    whole = frame_head(InvokeHead(1, time.monotonic_ns(), "id", ()), 5) + b"hello"

    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("echo")
            for at in range(len(whole) + 1):
                with socket.socket(socket.AF_UNIX) as leaving:
                    leaving.connect(worker.path)
                    leaving.sendall(whole[:at])
                if at % 4 == 0:
                    assert (await worker.ask(b"x"))[1] == b"x"
            assert yard.exits == []
            worker.leash.close()

    run(work())


def test_what_is_queued_is_answered_before_it_leaves(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("sleeps")
            waiting = []
            for _ in range(3):
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(worker.path)
                head = InvokeHead(1, time.monotonic_ns(), "", ())
                connection.sendall(frame_head(head, 3) + b"0.1")
                waiting.append(connection)
            worker.leash.close()
            await until(lambda: yard.code_of(worker.pid) == 0)
            for connection in waiting:
                with connection:
                    assert wire.Receiver().receive(connection)[1] == b"slept 0.1"

    run(work())


def test_an_error_of_a_megabyte_is_cut_short_for_the_client(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            add(yard, "raises-long", LONG_TEXT)
            worker = await yard.fork("raises-long")
            head, body = await worker.ask(b"x")
            assert (head.status, len(body) < 5000) == (500, True)
            worker.leash.close()

    run(work())


def test_code_that_ends_its_process_is_said_to_the_client_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("exits_on_predict")
            head, body = await worker.ask(b"x")
            assert (head.status, head.kind) == (500, "WorkerDiedException")
            assert b"SystemExit" in body
            await until(lambda: yard.code_of(worker.pid) == 4)
            worker.leash.close()

    run(work())


def test_two_workers_draw_different_random_numbers(tmp_path: Path) -> None:
    code = "import random\ndef model_fn(d): return None\n" + (
        "def transform_fn(m, body, c, a): return str(random.random())\n"
    )

    async def work() -> None:
        async with nursery(tmp_path) as yard:
            add(yard, "draws", code)
            workers = [await yard.fork("draws") for _ in range(3)]
            drawn = {(await worker.ask(b"x"))[1] for worker in workers}
            assert len(drawn) == 3
            for worker in workers:
                worker.leash.close()

    run(work())


def test_the_users_modules_may_be_called_like_ours(tmp_path: Path) -> None:
    async def work() -> None:
        async with nursery(tmp_path) as yard:
            worker = await yard.fork("shadows_handlers")
            head, _ = await worker.ask(b"x")
            assert head.status == 200
            worker.leash.close()

    run(work())
    assert (BEHAVIOURS / "shadows_handlers" / "code" / "handlers.py").exists()


def test_a_worker_works_in_its_models_directory_without_our_arguments(tmp_path: Path) -> None:
    code = "import os, sys\ndef model_fn(d): return None\n" + (
        "def transform_fn(m, body, c, a): return repr((os.getcwd(), len(sys.argv)))\n"
    )

    real = os.path.realpath(tmp_path / "looks")

    async def work() -> None:
        async with nursery(tmp_path) as yard:
            add(yard, "looks", code)
            worker = await yard.fork("looks")
            _, body = await worker.ask(b"x")
            assert body.decode() == repr((real, 1))
            worker.leash.close()

    run(work())
