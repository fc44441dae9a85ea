"""Forks workers on request and reports their deaths: the loop of a zygote and of a loaded model.

It runs on one thread and waits for two things: requests to fork, and dead children. The process it
runs in is the only one who can reap these, and reports each death before it does.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Callable

import msgspec

from model_server import wire
from model_server.processes import lifeline

log = logging.getLogger("modelyard.zygote")

_MAX_MESSAGE_BYTES = 1 << 20
_EX_SOFTWARE = 70

# Is the worker that was asked for, with its listening socket and its leash; does not come back.
Become = Callable[[wire.WorkerSpec, socket.socket, socket.socket], object]


class ForkLoop:
    """The loop. ``run`` returns, in the parent, when the controller closes the channel."""

    def __init__(self, control: socket.socket, lifeline_fd: int, become: Become) -> None:
        self._control = control
        self._lifeline_fd = lifeline_fd
        self._become = become
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Fork and reap until the controller hangs up."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wakeup_read, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wakeup_read in ready:
                os.read(self._wakeup_read, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._answer():
                return

    def tell(self, content: msgspec.Struct) -> None:
        """Send a message to the controller."""
        self._control.send(wire.encode(content))

    def _answer(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE_BYTES, 2)
        if not data:
            return False
        spec = wire.decode_worker_spec(data)
        listener, leash = (socket.socket(fileno=fd) for fd in fds)
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(wire.ForkFailed(spec.worker_id, str(error)))
        else:
            if pid == 0:
                self._be_child(spec, listener, leash)
            self.tell(wire.Forked(spec.worker_id, pid))
        listener.close()
        leash.close()
        return True

    def _be_child(
        self, spec: wire.WorkerSpec, listener: socket.socket, leash: socket.socket
    ) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            lifeline.arm(self._lifeline_fd)
            self._control.close()
            os.close(self._wakeup_read)
            os.close(self._wakeup_write)
            self._become(spec, listener, leash)
        except BaseException:
            log.exception("worker failed", extra={"model": spec.model_name})
        finally:
            os._exit(_EX_SOFTWARE)  # never fall back into the parent's loop

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            killed = found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            # What the model's code had forked goes with it. While the leader is not reaped, its
            # process group's number cannot mean anybody else.
            try:
                os.killpg(found.si_pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                log.debug("process group %d is gone already", found.si_pid)
            # Told before it is reaped: should this process die in between, the controller inherits
            # the dead child, and hears of it twice and not never.
            self.tell(wire.Exited(found.si_pid, -found.si_status if killed else found.si_status))
            os.waitpid(found.si_pid, 0)
