"""The limit that makes an allocation fail with a MemoryError in the process that asks for too much.

``RLIMIT_DATA`` counts all private memory that can be written, touched or not: also the stacks of
threads, and weights that a framework maps privately to read them on demand. So it starts from what
the process has when it is forked, and leaves some room for these. Child processes inherit it.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from model_server import wire

_PAGE = os.sysconf("SC_PAGE_SIZE")

# Stacks and arenas are reserved by the whole, and a little is touched.
_BYTES_FOR_EACH_THREAD = 16 << 20
_SPARE_BYTES = 64 << 20


def limit_load(spec: wire.WorkerSpec) -> None:
    """Before user code runs: let this process take so much more than it has now.

    Its weights come on top, as they may be mapped.
    """
    if spec.data_limit_bytes is not None:
        _allow(spec.data_limit_bytes + spec.plan.weight_bytes, spec.resources.threads)


def limit_growth(spec: wire.WorkerSpec, private_bytes: int) -> None:
    """The model is loaded and takes ``private_bytes``: let it take what is left of its limit."""
    if spec.data_limit_bytes is not None:
        _allow(max(spec.data_limit_bytes - private_bytes, 0), spec.resources.threads)


def _allow(more_bytes: int, threads: int) -> None:
    _set(_data_bytes() + more_bytes + _SPARE_BYTES + threads * _BYTES_FOR_EACH_THREAD)


def _set(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """What counts against the limit now, and the stack."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE
