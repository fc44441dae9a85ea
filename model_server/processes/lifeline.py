"""No process outlives the controller: the kernel kills the rest when it dies, however it dies.

The controller holds the only write end of a pipe and never writes. Every other process re-opens
the read end (so that signal settings are its own and not shared with its forks) and asks the kernel
to send SIGKILL to its whole process group when the pipe changes, which is when the controller is
gone. Unlike PR_SET_PDEATHSIG this looks past the direct parent: a worker outlives its zygote.
It needs no thread and no polling, and works while user code is stuck in C.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal

_F_SETSIG = 10  # Linux; not in the fcntl module


class Lifeline:
    """The controller's end."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()

    def close(self) -> None:
        """Let go: every armed process group is killed at once."""
        os.close(self._write_fd)
        os.close(self.read_fd)


def arm(read_fd: int) -> int:
    """Tie this process's group to the controller's life; returns the descriptor that does it.

    Call it once in each process, after it has become the leader of its own group.
    """
    own = os.open(f"/proc/self/fd/{read_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(own, 0)
    if poller.poll(0):  # it died before the kernel was asked to tell us
        os._exit(1)
    return own
