"""What the kernel knows about memory and sockets. Effects only: decisions are made elsewhere."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_CGROUP_V2_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_V1_LIMIT = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PR_SET_CHILD_SUBREAPER = 36


def private_bytes(pid: int) -> int:
    """Memory that comes back when this process ends: its dirty private pages.

    Mapped weights are page cache and stay out, also while freshly written ones are still dirty. 0
    when the process is gone. Takes the process's mmap lock for milliseconds per GiB: not for event
    loops or short intervals.
    """
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # gone, or not for us to look at
        return 0
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    private = kib.get("Private_Dirty", 0)
    dirty_files = kib.get("Pss_Dirty", 0) - kib.get("Pss_Anon", 0)
    if 0 < dirty_files <= private:  # if more, they are shared, and so not in ``private``
        private -= dirty_files
    return private * 1024


def threads_of_this_process() -> int:
    """How many threads this process has, native ones included."""
    return sum(1 for _ in (_PROC / "self" / "task").iterdir())


def channels_of_this_process() -> set[str]:
    """What leads out of this process but to no file: sockets, pipes, event loops' queues."""
    found = set()
    for entry in (_PROC / "self" / "fd").iterdir():
        with suppress(OSError):  # the listing's own is gone by now
            target = str(entry.readlink())
            if not target.startswith("/"):
                found.add(f"{entry.name} {target}")
    return found


def machine_memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_ceiling_bytes() -> int:
    """What this container may use: the control group's limit (v2, then v1), else the machine."""
    machine = machine_memory_bytes()
    for path in (_CGROUP_V2_LIMIT, _CGROUP_V1_LIMIT):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # v2 says "max" for no limit, v1 a number beyond any machine
            return min(machine, int(text))
    return machine


def gpu_count() -> int:
    """How many NVIDIA GPUs the driver shows; asks no library, so that none gets a context."""
    try:
        return sum(1 for _ in (_PROC / "driver" / "nvidia" / "gpus").iterdir())
    except OSError:
        return 0


def prefer_as_oom_victim() -> None:
    """When the kernel must kill somebody, let it be a model and not the server."""
    path = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):  # some systems do not let a process change it
        path.write_text(str(max(int(path.read_text()), 500)))


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, as PID 1 would."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


_SOCK_DIAG_BY_FAMILY = 20
_NLM_REQUEST_DUMP = 0x301
_NETLINK_SOCK_DIAG = 4
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_LISTEN_STATE = 1 << 10


def waiting_connections() -> dict[int, int]:
    """Inode of each listening Unix socket -> connections waiting in its backlog.

    Asks the kernel's socket diagnostics once for all; empty where it does not answer
    (see sock_diag(7)).
    """
    header, attribute = struct.Struct("=IHHII"), struct.Struct("=HH")
    request = struct.pack(
        "=BBHIIIII", socket.AF_UNIX, 0, 0, _LISTEN_STATE, 0, _UDIAG_SHOW_RQLEN, 0, 0
    )
    found: dict[int, int] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(1.0)
            netlink.send(
                header.pack(
                    header.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_REQUEST_DUMP, 1, 0
                )
                + request
            )
            while True:
                data = netlink.recv(1 << 20)
                offset = 0
                while offset < len(data):
                    length, kind, *_ = header.unpack_from(data, offset)
                    if kind != _SOCK_DIAG_BY_FAMILY:
                        return found
                    inode = struct.unpack_from("=I", data, offset + 20)[0]
                    place = offset + 32
                    while place + attribute.size <= offset + length:
                        size, name = attribute.unpack_from(data, place)
                        if name == _UNIX_DIAG_RQLEN:
                            found[inode] = struct.unpack_from("=I", data, place + 4)[0]
                        place += max(4, (size + 3) & ~3)
                    offset += (length + 3) & ~3
    except OSError:
        return found
