"""What a container takes by its control group, read from this machine's files in microseconds.

An engine tells the same, but slowly, and what it told a second ago misleads who has just unloaded
a model to make room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def used_bytes(pid: int, container: str) -> int | None:
    """Memory of the group that this process and container are in; None if it is not to be seen.

    Without page cache that the kernel takes back first, as ``docker stats`` shows it.
    """
    with suppress(OSError, ValueError):
        for controllers, path in _groups(pid, container):
            if controllers == [""]:
                return _used(_ROOT, path, "memory.current", "inactive_file")
            if "memory" in controllers:
                group = _ROOT / "memory"
                return _used(group, path, "memory.usage_in_bytes", "total_inactive_file")
    return None


def cpu_seconds(pid: int, container: str) -> float | None:
    """Processor time that the same group has used; None if it is not to be seen."""
    with suppress(OSError, ValueError):
        for controllers, path in _groups(pid, container):
            below = path.lstrip("/")
            if controllers == [""]:
                lines = (_ROOT / below / "cpu.stat").read_text().splitlines()
                told = dict(line.split() for line in lines)
                return int(told["usage_usec"]) / 1e6 if "usage_usec" in told else None
            if "cpuacct" in controllers:
                group = _ROOT / ",".join(controllers) / below
                return int((group / "cpuacct.usage").read_text()) / 1e9
    return None


def limit_bytes() -> int | None:
    """What this process and its children may take by its own group; None if there is no limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    groups = (line.split(":", 2)[1:] for line in lines)
    limits = [limit for controllers, path in groups for limit in _limits(controllers, path)]
    return min(limits, default=None)


def _groups(pid: int, container: str) -> Iterator[tuple[list[str], str]]:
    """Controllers and path of the groups of a process, if it is one of that container's."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if container in path:  # else the pid is somebody else's
            yield controllers.split(","), path


def _limits(controllers: str, path: str) -> Iterator[int]:
    """Those of a group and of the groups that it is in; one at a time may be out of sight."""
    if controllers == "":
        root, name = _ROOT, "memory.max"
    elif "memory" in controllers.split(","):
        root, name = _ROOT / "memory", "memory.limit_in_bytes"
    else:
        return
    group = Path(path)
    for inner in (group, *group.parents):
        with suppress(OSError, ValueError):  # ValueError: "max", no limit
            yield int((root / str(inner).lstrip("/") / name).read_text())


def _used(root: Path, path: str, usage: str, cache: str) -> int:
    group = root / path.lstrip("/")
    details = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    cached = next((int(value) for name, value in details if name == cache), 0)
    return max(int((group / usage).read_text()) - cached, 0)
