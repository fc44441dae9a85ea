"""What the kernel says of memory and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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


def listening(path: str, clients: int) -> tuple[ExitStack, int]:
    """A Unix socket with so many connections in its backlog, and its inode."""
    stack = ExitStack()
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(path)
    listener.listen(64)
    for _ in range(clients):
        client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        client.connect(path)
    return stack, os.fstat(listener.fileno()).st_ino


def test_connections_that_wait_are_counted_for_each_socket(tmp_path: Path) -> None:
    with ExitStack() as stack:
        expected = {}
        for clients in (0, 1, 5, 30):
            held, inode = listening(f"{tmp_path}/{clients}", clients)
            stack.push(held)
            expected[inode] = clients
        found = probe.waiting_connections()
        assert {inode: found[inode] for inode in expected} == expected


def test_a_thousand_sockets_are_counted_in_one_go(tmp_path: Path) -> None:
    with ExitStack() as stack:
        expected = {}
        for number in range(400):
            held, inode = listening(f"{tmp_path}/{number}", number % 2)
            stack.push(held)
            expected[inode] = number % 2
        found = probe.waiting_connections()
        assert {inode: found.get(inode) for inode in expected} == expected


def test_a_connection_that_is_accepted_waits_no_more(tmp_path: Path) -> None:
    path = f"{tmp_path}/one"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen(5)
        client.connect(path)
        inode = os.fstat(listener.fileno()).st_ino
        assert probe.waiting_connections()[inode] == 1
        listener.accept()[0].close()
        assert probe.waiting_connections()[inode] == 0
