"""How many connections wait in the backlogs of Unix sockets, which only the kernel knows.

It is asked over a netlink socket, for all sockets at once: see sock_diag(7) and netlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_AND_DUMP = 0x301
_SHOW_QUEUE_LENGTHS = 0x10
_QUEUE_LENGTHS = 4
_LISTENING = 1 << 10

_LIMIT_SECONDS = 1.0
_READ_BYTES = 1 << 20

_MESSAGE = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
_QUESTION = struct.Struct("=BBHIIIII")  # family, protocol, -, states, inode, what to show, cookie
_SOCKET = struct.Struct("=BBBBIII")  # family, type, state, -, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # length, name
_NUMBER = struct.Struct("=I")


def waiting_connections() -> dict[int, int]:
    """Inode of each listening Unix socket -> connections waiting in its backlog.

    Empty where the kernel does not answer.
    """
    found: dict[int, int] = {}
    with (
        suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink,
    ):
        netlink.settimeout(_LIMIT_SECONDS)
        netlink.send(_question())
        while _take(netlink.recv(_READ_BYTES), found):
            pass
    return found


def _question() -> bytes:
    body = _QUESTION.pack(socket.AF_UNIX, 0, 0, _LISTENING, 0, _SHOW_QUEUE_LENGTHS, 0, 0)
    length = _MESSAGE.size + len(body)
    return _MESSAGE.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 1, 0) + body


def _take(data: bytes, found: dict[int, int]) -> bool:
    """Note what an answer says; False when it was the last."""
    for kind, message in _messages(data):
        if kind != _SOCK_DIAG_BY_FAMILY:  # the end, or an error
            return False
        inode = _SOCKET.unpack_from(message)[4]
        for name, value in _attributes(message[_SOCKET.size :]):
            if name == _QUEUE_LENGTHS:
                found[inode] = _NUMBER.unpack_from(value)[0]
    return bool(data)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message."""
    while len(data) >= _MESSAGE.size:
        length, kind, *_ = _MESSAGE.unpack_from(data)
        yield kind, data[_MESSAGE.size : length]
        data = data[_aligned(max(length, _MESSAGE.size)) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Name and value of each attribute."""
    while len(data) >= _ATTRIBUTE.size:
        length, name = _ATTRIBUTE.unpack_from(data)
        yield name, data[_ATTRIBUTE.size : length]
        data = data[_aligned(max(length, _ATTRIBUTE.size)) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
