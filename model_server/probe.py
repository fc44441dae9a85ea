"""What the kernel knows about memory and processes. Effects only: decisions are made elsewhere."""

from __future__ import annotations

import ctypes
import functools
import os
from contextlib import suppress
from pathlib import Path

from model_server.cgroups import MemoryUse, memory_group

_PROC = Path("/proc")
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


def proportional_bytes(pid: int) -> int:
    """Anonymous memory of a process, pages that several share counted in parts; 0 when it is gone.

    For processes forked from one another that all are counted: what is private to none of them is
    still in use.
    """
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("Pss_Anon:")), "x 0")
    return int(line.split()[1]) * 1024


def passing_bytes() -> int:
    """What this process took at its height more than it takes now."""
    text = (_PROC / "self" / "status").read_text()
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("VmHWM", "VmRSS"))
    }
    return max(kib["VmHWM"] - kib["VmRSS"], 0) * 1024


def threads_of_this_process() -> int:
    """How many threads this process has, native ones included."""
    return sum(1 for _ in (_PROC / "self" / "task").iterdir())


def has_children() -> bool:
    """Whether this process has child processes, dead ones that it has not waited for included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def machine_memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_ceiling_bytes() -> int:
    """What this container may use: the smallest limit of its control groups, else the machine."""
    group = memory_group()
    machine = machine_memory_bytes()
    return min(machine, group.limit_bytes) if group else machine


def memory_use_bytes() -> int | None:
    """What everything under the limit that counts holds of it; None without a limit.

    Page cache is left out, which the kernel takes back before it kills anybody. Takes 20 µs. The
    limit is looked for once.
    """
    use = _use_under_limit()
    return use.read() if use else None


@functools.cache
def _use_under_limit() -> MemoryUse | None:
    group = memory_group()
    if group is None or group.limit_bytes >= machine_memory_bytes():
        return None
    with suppress(OSError):  # no statistics of it here
        return group.open_use()
    return None


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
