"""Limits of memory that the kernel holds this process to, by its control groups.

Version 2, version 1 and both at once; in containers with and without a namespace of their own.
Everything is read below a given root, so that a tree of plain files will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_V1_MOUNT = "sys/fs/cgroup/memory"
_V2_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")

# Version 1 has no word for "no limit", only a number near 2 to the 63rd.
_NO_LIMIT = 1 << 62

# What is counted of ``memory.stat``: what cannot be had back without ending a process. Version 1
# tells nothing of the kernel's share that does not include caches.
_V1_HELD = ("total_rss", "total_shmem")
_V2_HELD = ("anon", "shmem", "kernel_stack", "pagetables", "percpu", "sock", "slab_unreclaimable")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group that has a limit: what all processes in it and below may take."""

    directory: Path
    limit_bytes: int
    held: tuple[str, ...]

    def open_use(self) -> MemoryUse:
        """A way to read what it holds again and again. Raises OSError."""
        return MemoryUse(self)


class MemoryUse:
    """What a control group holds, read through a descriptor that stays open: 20 µs each."""

    def __init__(self, group: MemoryGroup) -> None:
        self._fd = os.open(group.directory / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)
        self._held = group.held

    def read(self) -> int | None:
        """Bytes that processes and kernel hold, without page cache; None when it cannot be told."""
        try:
            numbers = _numbers(os.pread(self._fd, 1 << 16, 0).decode())
        except OSError:  # the group is gone
            return None
        if self._held[0] not in numbers:
            return None
        return sum(numbers.get(name, 0) for name in self._held)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def memory_group(root: Path = Path("/")) -> MemoryGroup | None:
    """The control group whose limit counts: the smallest of this process's own and all above it.

    None when there is no limit.
    """
    return min(_limited(root), key=lambda group: group.limit_bytes, default=None)


def oom_counters(root: Path = Path("/")) -> Iterator[Path]:
    """Files with a line ``oom_kill N`` for this process's groups, the nearest first."""
    paths = _own_paths(root)
    for mount in _V2_MOUNTS:
        for directory in _directories(root / mount, paths.get("", "/")):
            yield directory / "memory.events"
    for directory in _directories(root / _V1_MOUNT, paths.get("memory", "/")):
        yield directory / "memory.oom_control"
    yield root / "proc/vmstat"


def _limited(root: Path) -> Iterator[MemoryGroup]:
    paths = _own_paths(root)
    for mount in _V2_MOUNTS:
        for directory in _directories(root / mount, paths.get("", "/")):
            # Above "high" the kernel lets nobody go on until memory is free: as good as a limit.
            limits = [_number(directory / name) for name in ("memory.max", "memory.high")]
            if known := [limit for limit in limits if limit is not None]:
                yield MemoryGroup(directory, min(known), _V2_HELD)
    for directory in _directories(root / _V1_MOUNT, paths.get("memory", "/")):
        if (limit := _v1_limit(directory)) is not None:
            yield MemoryGroup(directory, limit, _V1_HELD)


def _v1_limit(directory: Path) -> int | None:
    """The limit of a group, or a smaller one above it, which a container cannot look at itself."""
    limit = _number(directory / "memory.limit_in_bytes")
    try:
        above = _numbers((directory / "memory.stat").read_text()).get("hierarchical_memory_limit")
    except (OSError, UnicodeDecodeError):
        above = None
    known = [number for number in (limit, above) if number is not None and number < _NO_LIMIT]
    return min(known, default=None)


def _own_paths(root: Path) -> Mapping[str, str]:
    """This process's groups by controller; "" is the one of version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _directories(mount: Path, path: str) -> Iterator[Path]:
    """The group's directory and all above it, up to the mount.

    In a container the path may be that of the host while the mount begins somewhere on the way:
    then the beginning of the path is not there.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    while parts and not mount.joinpath(*parts).is_dir():
        del parts[0]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, as for "max"."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isascii() and text.isdecimal() else None


def _numbers(text: str) -> dict[str, int]:
    """Lines of a name and a number each; others are left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
