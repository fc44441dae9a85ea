"""No process outlives the one that holds the lifeline, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ...contract.polling import eventually
from ...contract.processes import is_running

# The top holds the lifeline. Its child makes a group, arms, and forks a grandchild into the same
# group. Both are then stuck: in one call into C that does not return for minutes, or asleep.
TREE = """
import os, signal, sys, time
from model_server.processes.lifeline import Lifeline, arm

line = Lifeline()
child = os.fork()
if child == 0:
    os.close(line._write_fd)
    os.setsid()
    arm(line.read_fd)
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    os.fork()
    os.write(1, f"{os.getpid()}\\n".encode())
    WORK
else:
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)
"""
BUSY = "pow(7, 10**9, 10**400000 + 1)"
ASLEEP = "time.sleep(600)"


def tree(work: str) -> tuple[subprocess.Popen[bytes], set[int]]:
    """The top process, and the pids of all three."""
    top = subprocess.Popen(
        [sys.executable, "-c", TREE.replace("WORK", work)], stdout=subprocess.PIPE
    )
    assert top.stdout
    return top, {int(top.stdout.readline()) for _ in range(3)}


@pytest.mark.parametrize("work", [BUSY, ASLEEP], ids=["busy in C", "asleep"])
def test_all_are_gone_when_the_holder_is_killed(work: str) -> None:
    top, pids = tree(work)
    with top:
        assert len(pids) == 3 and all(map(is_running, pids))
        top.kill()
        assert eventually(lambda: not any(map(is_running, pids)))


AFTERWARDS = """
import os
from model_server.processes.lifeline import Lifeline, arm

line = Lifeline()
os.close(line._write_fd)
arm(line.read_fd)
print("still here")
"""


def test_arming_after_the_holder_is_gone_ends_the_process_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, check=False)
    assert done.returncode in (1, -9)
    assert done.stdout == b""


CLOSES = """
import os, time
from model_server.processes.lifeline import Lifeline, arm

line = Lifeline()
ready_read, ready_write = os.pipe()
child = os.fork()
if child == 0:
    os.close(line._write_fd)
    os.setsid()
    arm(line.read_fd)
    os.write(ready_write, b".")
    time.sleep(600)
os.read(ready_read, 1)
line.close()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_closing_the_lifeline_kills_the_others_and_not_the_holder() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSES], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"-9\n")
