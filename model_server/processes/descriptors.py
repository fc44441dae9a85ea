"""What this process has open, and what of it forks of this process could not share.

A fork has the same descriptors, and behind them is one thing: whoever reads a file moves the place
at which all others read on. Only what is mapped is read without a descriptor.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections import Counter
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SELF = Path("/proc/self")
_PATH = 5  # in a line of ``maps``, after addresses, rights, offset, device, inode

# Of these every read is like every other.
_WITHOUT_PLACE = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})


class Descriptor(NamedTuple):
    """One of this process's, and what the kernel says is behind it: a path, or "socket:[7]"."""

    number: int
    target: str

    @property
    def is_file(self) -> bool:
        """Whether something in the file system is behind it; else a socket, pipe, event queue."""
        return self.target.startswith("/")


def descriptors_of_this_process() -> set[Descriptor]:
    """All that are open."""
    found = set()
    for entry in (_SELF / "fd").iterdir():
        with suppress(OSError):  # the listing's own is gone by now
            found.add(Descriptor(int(entry.name), str(entry.readlink())))
    return found


def opened_since(before: Set[Descriptor]) -> list[Descriptor]:
    """What is open now, was not then, and would disturb forks that share it."""
    opened = descriptors_of_this_process() - before
    mapped = _mappings()
    kept = Counter(each.target for each in opened if each.is_file)
    return [each for each in opened if not _is_harmless(each, kept[each.target], mapped)]


def _is_harmless(opened: Descriptor, kept: int, mapped: Counter[str]) -> bool:
    """Whether nobody reads by it: some libraries keep one for each mapping of a file.

    With more of them than mappings, one may be read from.
    """
    if opened.target in _WITHOUT_PLACE:
        return True
    return kept <= mapped[opened.target] and _is_read_only(opened.number)


def _is_read_only(number: int) -> bool:
    """Of a regular file."""
    try:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        return mode == os.O_RDONLY and stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return False


def _mappings() -> Counter[str]:
    """How often each file is mapped."""
    lines = (_SELF / "maps").read_text(errors="surrogateescape").splitlines()
    return Counter(_paths(lines))


def _paths(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        fields = line.split(maxsplit=_PATH)
        if len(fields) > _PATH:
            yield fields[_PATH].replace("\\012", "\n")
