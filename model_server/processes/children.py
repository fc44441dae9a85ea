"""The controller's own child processes: started here, reaped here, by nobody else.

The controller is PID 1 in its container and adopts what its descendants leave behind, so it waits
for any child. That is safe only because nothing else in this process starts children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from model_server import probe

log = logging.getLogger("modelyard.children")


class Children:
    """Starts processes and tells, once for each, how it ended (negative: by that signal)."""

    def __init__(self, on_adopted_exit: Callable[[int, int], None]) -> None:
        self._on_exit: dict[int, tuple[subprocess.Popen[bytes], Callable[[int], None]]] = {}
        self._on_adopted_exit = on_adopted_exit

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to reap; call before the first ``start``."""
        probe.adopt_orphans()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(
        self,
        command: Sequence[str],
        *,
        on_exit: Callable[[int], None],
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str],
    ) -> int:
        """Start a process in a session of its own and return its pid."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=pass_fds,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C in a terminal is for the controller alone
        )
        self._on_exit[process.pid] = (process, on_exit)
        return process.pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid in self._on_exit:
                process, on_exit = self._on_exit.pop(pid)
                process.returncode = code  # it is reaped: Popen must not try again
                on_exit(code)
            else:
                self._on_adopted_exit(pid, code)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process and, where it leads one, its whole group; 0 is a process never started.

    Only for processes that have not been reaped: after that their pid may be somebody else's.
    """
    if pid <= 0:
        return
    for send in (os.killpg, os.kill):
        try:
            send(pid, number)
            return
        except (ProcessLookupError, PermissionError):
            continue


def kill_group(leader: int) -> None:
    """End what a process has left behind in its group, also when it has been reaped itself.

    While any of the group lives the kernel gives its number to nobody else.
    """
    if leader > 0:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


async def group_is_gone(leader: int, limit_seconds: float = 1.0) -> None:
    """Wait until the processes that a dead leader has left behind are gone too.

    They have been sent SIGKILL; as orphans they are adopted and reaped by this process.
    """
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return
        await asyncio.sleep(0.001)


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown signal"
    hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by signal {-code} ({name}){hint}"
