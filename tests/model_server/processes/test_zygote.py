"""The zygote process itself, spoken to over its channel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from handlers.types import HandlerOptions, Interface, ModelPlan
from model_server import wire
from model_server.processes.lifeline import Lifeline
from model_server.stats import StatsTable

from ...contract.endpoint import BEHAVIOURS
from ...contract.polling import eventually
from ...contract.processes import is_running


@dataclass(frozen=True)
class Spoken:
    """A running zygote and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    lifeline: Lifeline

    def hear(self) -> wire.ZygoteMessage:
        heard: wire.ZygoteMessage = wire.decode_zygote_message(self.channel.recv(1 << 16))
        return heard

    def ask_fork(self, number: int, model_dir: Path, path: str) -> socket.socket:
        """Ask for a worker; returns our end of its leash."""
        plan = ModelPlan(
            str(model_dir),
            "python",
            Interface.SAGEMAKER,
            script=str(model_dir / "code" / "inference.py"),
            code_dirs=(str(model_dir / "code"),),
        )
        spec = wire.WorkerSpec(number, number, f"m{number}", plan, HandlerOptions())
        leash, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash.settimeout(40)
        with far_end, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            fds = [listener.fileno(), far_end.fileno()]
            socket.send_fds(self.channel, [wire.encode(spec)], fds)
        return leash


@contextmanager
def zygote(tmp_path: Path, framework: str = "python") -> Iterator[Spoken]:
    StatsTable.create(tmp_path / "stats")
    lifeline = Lifeline()
    channel, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(40)
    spec = wire.ZygoteSpec(
        framework, far_end.fileno(), lifeline.read_fd, str(tmp_path / "stats"), "INFO", "plain"
    )
    command = [
        sys.executable,
        "-P",
        "-m",
        "model_server.processes.zygote",
        msgspec.json.encode(spec).decode(),
    ]
    with channel:
        process = subprocess.Popen(
            command, pass_fds=(far_end.fileno(), lifeline.read_fd), start_new_session=True
        )
        far_end.close()
        try:
            yield Spoken(process, channel, lifeline)
        finally:
            lifeline.close()
            process.wait(60)


def test_it_says_when_it_is_warm_and_what_it_holds(tmp_path: Path) -> None:
    with zygote(tmp_path) as spoken:
        warm = spoken.hear()
        assert isinstance(warm, wire.ZygoteReady)
        assert warm.private_bytes > 1 << 20


def test_it_leaves_when_the_channel_is_closed_and_its_workers_stay(tmp_path: Path) -> None:
    with zygote(tmp_path) as spoken:
        spoken.hear()
        leash = spoken.ask_fork(1, BEHAVIOURS / "echo", str(tmp_path / "1"))
        forked = spoken.hear()
        assert isinstance(forked, wire.Forked)
        with leash:
            assert isinstance(wire.decode_worker_message(leash.recv(1 << 16)), wire.WorkerReady)
            spoken.channel.close()
            assert spoken.process.wait(60) == 0
            assert is_running(forked.pid)
        assert eventually(lambda: not is_running(forked.pid))


def test_it_reports_each_exit_once_and_leaves_no_zombie(tmp_path: Path) -> None:
    with zygote(tmp_path) as spoken:
        spoken.hear()
        pids = set()
        for number in range(1, 6):
            leash = spoken.ask_fork(number, BEHAVIOURS / "echo", str(tmp_path / str(number)))
            forked = spoken.hear()
            assert isinstance(forked, wire.Forked) and forked.worker_id == number
            leash.recv(1 << 16)
            leash.close()
            ended = spoken.hear()
            assert ended == wire.Exited(forked.pid, 0)
            pids.add(forked.pid)
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_a_worker_forked_is_killed_when_the_worker_ends(tmp_path: Path) -> None:
    with zygote(tmp_path) as spoken:
        spoken.hear()
        leash = spoken.ask_fork(1, BEHAVIOURS / "forks", str(tmp_path / "1"))
        forked = spoken.hear()
        assert isinstance(forked, wire.Forked)
        leash.recv(1 << 16)
        children = Path(f"/proc/{forked.pid}/task/{forked.pid}/children").read_text().split()
        assert len(children) == 1
        os.kill(forked.pid, 9)
        assert spoken.hear() == wire.Exited(forked.pid, -9)
        leash.close()
        assert eventually(lambda: not is_running(int(children[0])))


def test_a_worker_holds_none_of_its_zygotes_descriptors(tmp_path: Path) -> None:
    with zygote(tmp_path) as spoken:
        spoken.hear()
        held = []
        leashes = []
        for number in (1, 2, 3):
            leash = spoken.ask_fork(number, BEHAVIOURS / "echo", str(tmp_path / str(number)))
            forked = spoken.hear()
            assert isinstance(forked, wire.Forked)
            leash.recv(1 << 16)
            held.append(len(list(Path(f"/proc/{forked.pid}/fd").iterdir())))
            leashes.append(leash)
        assert len(set(held)) == 1, "later workers inherit more than earlier ones"
        for leash in leashes:
            leash.close()
