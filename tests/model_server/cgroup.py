"""A control group with a memory limit, made by hand below this process's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..contract.polling import eventually

_MOUNT = Path("/sys/fs/cgroup/memory")


class Group:
    """The group's directory, and what it counts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This process is in the group meanwhile, and so is for ever what it starts."""
        own = str(os.getpid())
        (self.directory / "cgroup.procs").write_text(own)
        try:
            yield
        finally:
            (self.directory.parent / "cgroup.procs").write_text(own)

    @property
    def oom_kills(self) -> int:
        """How many processes the kernel has killed in it for lack of memory."""
        lines = (self.directory / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    @property
    def held_bytes(self) -> int:
        """What its processes hold, page cache left out."""
        lines = (self.directory / "memory.stat").read_text().splitlines()
        numbers = dict(line.split() for line in lines)
        return int(numbers["total_rss"]) + int(numbers.get("total_shmem", 0))


def _own_directory() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _MOUNT / path.lstrip("/")
    pytest.skip("this process has no memory control group of version 1")


@contextmanager
def limited_group(limit_bytes: int) -> Iterator[Group]:
    """A group with that limit; skips the test where none can be made."""
    directory = _own_directory() / f"modelyard-{os.getpid()}"
    try:
        directory.mkdir()
        (directory / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"no control group can be made in {directory.parent}: {error.strerror}")
    try:
        yield Group(directory)
    finally:
        assert eventually(lambda: not (directory / "cgroup.procs").read_text().split())
        directory.rmdir()
