"""Child processes: their ends are told once, orphans are reaped, kills hit nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from model_server.processes.children import Children, describe_exit, group_is_gone, kill, kill_group

from ...contract.processes import is_running
from ..yard_parts import run, until

Ends = list[tuple[int, int]]


def watched(adopted: Ends) -> Children:
    children = Children(on_adopted_exit=lambda pid, code: adopted.append((pid, code)))
    children.watch(asyncio.get_running_loop())
    return children


def start(children: Children, code: str, codes: list[int]) -> int:
    return children.start(
        [sys.executable, "-S", "-c", code], on_exit=codes.append, environment=os.environ
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.abort()", -6),
    ],
)
def test_each_end_is_told_once_with_code_or_signal(code: str, expected: int) -> None:
    async def work() -> None:
        codes: list[int] = []
        children = watched([])
        start(children, code, codes)
        await until(lambda: bool(codes))
        children._reap()
        assert codes == [expected]

    run(work())


def test_many_ends_at_once_are_all_told() -> None:
    async def work() -> None:
        codes: list[int] = []
        children = watched([])
        pids = [start(children, f"raise SystemExit({number})", codes) for number in range(20)]
        await until(lambda: len(codes) == 20)
        assert sorted(codes) == list(range(20))
        assert len(set(pids)) == 20

    run(work())


def test_a_child_has_a_session_of_its_own_no_input_and_only_the_environment_given() -> None:
    code = (
        "import os, sys; assert os.getsid(0) == os.getpid(); assert sys.stdin.read() == '';"
        "assert os.environ.get('GIVEN') == 'yes'; assert 'HOME' not in os.environ"
    )

    async def work() -> None:
        codes: list[int] = []
        watched([]).start(
            [sys.executable, "-S", "-c", code], on_exit=codes.append, environment={"GIVEN": "yes"}
        )
        await until(lambda: codes == [0])

    run(work())


def test_orphans_of_a_child_are_adopted_and_reaped() -> None:
    fork = "import os, time; pid = os.fork(); pid or time.sleep(0.1); os._exit(0 if pid else 5)"

    async def work() -> None:
        adopted: Ends = []
        codes: list[int] = []
        start(watched(adopted), fork, codes)
        await until(lambda: bool(adopted and codes))
        assert codes == [0]
        assert [code for _, code in adopted] == [5]

    run(work())


@pytest.mark.parametrize("pid", [0, -1, -5])
def test_killing_what_was_never_started_kills_nobody(pid: int) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        kill(pid)
        assert is_running(other.pid)
        assert is_running(os.getpid())
        other.communicate(b"\n")
    assert other.returncode == 0


def test_killing_what_is_gone_harms_nobody() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as gone:
        gone.wait()
    kill(gone.pid)


def group() -> subprocess.Popen[bytes]:
    """A leader of a group with one more process in it, which ignores SIGTERM."""
    code = (
        "import os, signal, sys, time; signal.signal(15, signal.SIG_IGN); os.fork();"
        "os.write(1, b'.'); time.sleep(600)"
    )
    made = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert made.stdout
    assert made.stdout.read(2) == b".."
    return made


def test_killing_a_leader_kills_its_group() -> None:
    async def work() -> None:
        adopted: Ends = []
        watched(adopted)
        with group() as leader:
            kill(leader.pid)
            await group_is_gone(leader.pid)
            with pytest.raises(ProcessLookupError):
                os.killpg(leader.pid, 0)
            await until(lambda: len(adopted) == 2)
            assert {code for _, code in adopted} == {-signal.SIGKILL}

    run(work())


def test_ending_the_group_of_a_leader_that_is_gone_hits_nobody_who_has_its_number_now() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        kill_group(other.pid)  # it leads no group
        kill_group(0)
        assert is_running(other.pid)
        other.communicate(b"\n")
    assert other.returncode == 0


def test_what_a_reaped_leader_has_left_in_its_group_is_ended() -> None:
    async def work() -> None:
        adopted: Ends = []
        watched(adopted)
        with group() as leader:
            os.kill(leader.pid, signal.SIGKILL)
            await until(lambda: len(adopted) == 1)
            kill_group(leader.pid)
            await until(lambda: len(adopted) == 2)
            assert {code for _, code in adopted} == {-signal.SIGKILL}

    run(work())


def test_waiting_for_a_group_that_stays_ends_at_the_limit() -> None:
    async def work() -> None:
        adopted: Ends = []
        watched(adopted)
        with group() as leader:
            began = time.monotonic()
            await group_is_gone(leader.pid, limit_seconds=0.05)
            assert 0.05 <= time.monotonic() - began < 20
            kill(leader.pid)
            await until(lambda: len(adopted) == 2)

    run(work())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-11, "was killed by signal 11 (SIGSEGV)"),
        (-9, "memory runs out"),
        (-250, "was killed by signal 250 (unknown signal)"),
    ],
)
def test_an_end_in_words(code: int, words: str) -> None:
    assert words in describe_exit(code)
