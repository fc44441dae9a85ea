"""What a process takes between two measurements, told from numbers that cost microseconds.

Measuring (``probe.private_bytes``) walks the page tables. The kernel keeps counts of a process's
pages anyway, so what it was measured to take plus the change of these counts is good enough to see
that it grows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from model_server.model import Worker

_PAGE = os.sysconf("SC_PAGE_SIZE")

# ``statm`` counts mapped files and shared memory as one; only after a change of this size it is
# asked which it was.
_SHARED_STEP_PAGES = (8 << 20) // _PAGE


class Growth:
    """One process. Keeps a descriptor; raises OSError when the process is gone before it is open.

    ``first_bytes`` is what it took when it had loaded; 0 while it loads.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.first_bytes = 0
        self.estimated_bytes = 0
        self.beyond_bytes = 0  # what it takes more than the ledger says of it
        self.told_bytes = 0
        self._statm = os.open(f"/proc/{worker.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._anonymous = self._shared_pages = self._shared_bytes = 0
        self._inherited = _status(_parent(worker.pid))
        self._measured = -1
        self._offset = 0

    @property
    def is_ending(self) -> bool:
        """Whether it has been stopped already, so that what it takes will soon be back."""
        return self.worker.verdict is not None

    def look(self) -> None:
        """Bring ``estimated_bytes`` up to date. Raises ProcessLookupError when it is gone."""
        fields = os.pread(self._statm, 128, 0).split()
        resident, shared = int(fields[1]), int(fields[2])
        if not resident:
            raise ProcessLookupError
        self._anonymous = (resident - shared) * _PAGE
        if self.worker.private_bytes != self._measured:
            self._begin_anew()
        if abs(shared - self._shared_pages) > _SHARED_STEP_PAGES:
            self._shared_pages = shared
            theirs = self._inherited.get("RssShmem", 0)
            self._shared_bytes = max(_status(self.worker.pid).get("RssShmem", 0) - theirs, 0)
        self.estimated_bytes = max(self._anonymous + self._offset, 0) + self._shared_bytes

    def correct(self, private_bytes: int) -> None:
        """It has been measured just now."""
        self._offset = private_bytes - self._anonymous
        self.estimated_bytes = private_bytes + self._shared_bytes

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._statm)

    def _begin_anew(self) -> None:
        """It has been measured by somebody, or is seen for the first time."""
        self._measured = self.told_bytes = self.worker.private_bytes
        if self._measured:
            self._offset = self._measured - self._anonymous
            self.first_bytes = self.first_bytes or self._measured
        else:  # it has been forked: what it had of its parent then is still its parent's
            self._offset = -min(self._inherited.get("RssAnon", 0), self._anonymous)


def _parent(pid: int) -> int:
    """Who has forked it; 0 when it is gone."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])
    return 0


def _status(pid: int) -> dict[str, int]:
    """The kinds of resident pages of a process, in bytes; empty when it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {
            line.split(":")[0]: int(line.split()[1]) << 10
            for line in lines
            if line.startswith("Rss")
        }
    return {}
