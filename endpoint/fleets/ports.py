"""Ports for servers that are about to start, and who listens at one.

Taken from below the range that the kernel gives to outgoing connections, so that only another
server can come between. Ports go in blocks: the first is the server's, the rest is what the
platform calls its safe range, where it may open what else it needs.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"

_FIRST, _LAST, _BLOCK = 20_000, 32_760, 20
_LISTENING = "0A"  # in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Ports:
    """A block of ports: ``port`` to serve at, and those after it up to ``last``."""

    port: int
    last: int

    @property
    def safe_range(self) -> str:
        """What the platform calls SAGEMAKER_SAFE_PORT_RANGE, both ends included."""
        return f"{self.port + 1}-{self.last}"


def free_blocks() -> Iterator[Ports]:
    """Blocks in random order, each free when it is given."""
    starts = list(range(_FIRST, _LAST - _BLOCK, _BLOCK))
    random.shuffle(starts)
    for start in starts:
        block = Ports(start, start + _BLOCK - 1)
        if _are_free(range(block.port, block.last + 1)):
            yield block


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    return _are_free([port])


def can_listen(port: int) -> bool:
    """The same of a port where a server has just ended, whose last connections may linger."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _are_free(ports: Iterable[int]) -> bool:
    with ExitStack() as stack:
        try:
            for port in ports:
                listener = stack.enter_context(socket.socket())
                # as servers do it, else ports of connections that are over would count
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((HOST, port))
        except OSError:
            return False
    return True


def is_listened_at(port: int, pids: Iterable[int]) -> bool:
    """Whether one of these processes listens at the port; taken only if somebody does."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    return bool(sockets) and any(not sockets.isdisjoint(_open_files(pid)) for pid in pids)


def _listeners(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                yield inode


def _open_files(pid: int) -> list[str]:
    try:
        return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:  # it is gone, or was just closing one: the next look tells
        return []
