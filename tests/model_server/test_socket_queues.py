"""What the kernel says of connections that wait."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from model_server.socket_queues import waiting_connections


def listening(path: str, clients: int) -> tuple[ExitStack, int]:
    """A Unix socket with so many connections in its backlog, and its inode."""
    stack = ExitStack()
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(path)
    listener.listen(64)
    for _ in range(clients):
        client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        client.connect(path)
    return stack, os.fstat(listener.fileno()).st_ino


def test_connections_that_wait_are_counted_for_each_socket(tmp_path: Path) -> None:
    with ExitStack() as stack:
        expected = {}
        for clients in (0, 1, 5, 30):
            held, inode = listening(f"{tmp_path}/{clients}", clients)
            stack.push(held)
            expected[inode] = clients
        found = waiting_connections()
        assert {inode: found[inode] for inode in expected} == expected


def test_a_thousand_sockets_are_counted_in_one_go(tmp_path: Path) -> None:
    with ExitStack() as stack:
        expected = {}
        for number in range(400):
            held, inode = listening(f"{tmp_path}/{number}", number % 2)
            stack.push(held)
            expected[inode] = number % 2
        found = waiting_connections()
        assert {inode: found.get(inode) for inode in expected} == expected


def test_a_connection_that_is_accepted_waits_no_more(tmp_path: Path) -> None:
    path = f"{tmp_path}/one"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen(5)
        client.connect(path)
        inode = os.fstat(listener.fileno()).st_ino
        assert waiting_connections()[inode] == 1
        listener.accept()[0].close()
        assert waiting_connections()[inode] == 0
