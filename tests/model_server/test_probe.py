"""What the kernel says of memory and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_server import probe

MIB = 1 << 20


@contextmanager
def child(code: str) -> Iterator[int]:
    """A process that has run ``code`` and waits."""
    command = [sys.executable, "-c", code + "\nprint(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


def test_what_a_process_allocates_and_writes_is_its_own() -> None:
    with child("pass") as small, child("data = bytearray(b'x') * (50 << 20)") as large:
        grown = probe.private_bytes(large) - probe.private_bytes(small)
    assert 49 * MIB < grown < 60 * MIB


def test_what_a_process_only_reserves_is_nobodys() -> None:
    with child("import mmap; area = mmap.mmap(-1, 50 << 20)") as pid:
        assert probe.private_bytes(pid) < 40 * MIB


def test_a_mapped_file_that_is_only_read_is_page_cache() -> None:
    with tempfile.NamedTemporaryFile() as weights:
        weights.write(b"w" * (50 * MIB))
        weights.flush()
        os.fsync(weights.fileno())  # until then its pages are dirty, and so counted
        read = (
            f"import mmap; file = open({weights.name!r}, 'rb');"
            "area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ);"
            "assert sum(area[::4096])"
        )
        with child("pass") as small, child(read) as pid:
            assert probe.private_bytes(pid) - probe.private_bytes(small) < 15 * MIB


def test_what_a_fork_shares_is_not_its_own() -> None:
    code = "import os; data = bytearray(b'x') * (50 << 20); pid = os.fork(); pid or os.read(0, 1)"
    with child(code + "\nif not pid: os._exit(0)\nprint(pid, end='')") as parent:
        forked = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
        assert probe.private_bytes(forked) < 20 * MIB


def test_a_process_that_is_gone_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as gone:
        gone.wait()
    assert probe.private_bytes(gone.pid) == 0


def test_a_zombie_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert probe.private_bytes(zombie.pid) == 0


def test_the_ceiling_is_never_above_the_machine() -> None:
    assert 0 < probe.memory_ceiling_bytes() <= probe.machine_memory_bytes()


LIMITED = """
import os, pathlib, sys
own = [line.split(":")[2] for line in open("/proc/self/cgroup").read().splitlines()
       if line.split(":")[1] == "memory"][0]
group = pathlib.Path("/sys/fs/cgroup/memory" + own, f"modelyard-test-{os.getpid()}")
group.mkdir()
home = group.parent / "cgroup.procs"
try:
    (group / "memory.limit_in_bytes").write_text(str(200 << 20))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    from model_server import probe
    print(probe.memory_ceiling_bytes(), end=" ")
    before = probe.memory_use_bytes()
    data = bytearray(b"x") * (50 << 20)
    print(probe.memory_use_bytes() - before)
finally:
    home.write_text(str(os.getpid()))
    group.rmdir()
"""


def may_make_groups() -> bool:
    lines = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = [path for _, controllers, path in lines if controllers == "memory"]
    return bool(own) and os.access(f"/sys/fs/cgroup/memory{own[0]}/cgroup.procs", os.W_OK)


@pytest.mark.skipif(not may_make_groups(), reason="control groups (v1) cannot be made here")
def test_in_a_group_with_a_limit_that_is_the_ceiling_and_growth_is_seen() -> None:
    printed = subprocess.check_output([sys.executable, "-c", LIMITED], text=True)
    ceiling, grown = map(int, printed.split())
    assert ceiling == 200 * MIB
    assert 49 * MIB < grown < 60 * MIB


def test_without_a_limit_the_use_is_unknown_and_with_one_it_is_below_it() -> None:
    use = probe.memory_use_bytes()
    assert use is None or 0 < use <= probe.memory_ceiling_bytes()


def test_a_process_without_children_has_none() -> None:
    code = "from model_server.probe import has_children; print(has_children())"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"False\n"


def test_a_forked_child_is_found_also_when_it_is_dead_and_not_reaped() -> None:
    code = (
        "import os, signal; from model_server.probe import has_children;"
        "pid = os.fork() or signal.pause(); print(has_children()); os.kill(pid, 9);"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); print(has_children());"
        "os.waitpid(pid, 0); print(has_children())"
    )
    assert subprocess.check_output([sys.executable, "-c", code]).split() == [
        b"True",
        b"True",
        b"False",
    ]
