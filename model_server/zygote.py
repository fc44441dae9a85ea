"""A zygote: a clean interpreter that has imported a framework and forks one worker a request.

Started by the controller as ``python -P -m model_server.zygote SPEC``. Measured rules: importing
before the fork is safe; computing with more than one thread is not (children hang on an OpenMP
team that the fork left behind); one warm-up pass on one thread is safe and makes the first
prediction fast; CUDA must not be touched; forks come from the main thread only. So this process is
single-threaded and does nothing but wait for two things: requests to fork, and dead children.
It is the only one who can reap its workers, and reports each death before it does.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

import msgspec

from handlers.frameworks import FRAMEWORKS
from model_server import lifeline, logs, probe, wire, worker
from model_server.stats import StatsTable

log = logging.getLogger("modelyard.zygote")

_MAX_MESSAGE_BYTES = 1 << 20
_OWN_PACKAGES = ("container", "handlers", "model_server", "endpoint")


class Zygote:
    """The fork loop. ``run`` returns in the zygote when the controller closes the channel."""

    def __init__(self, spec: wire.ZygoteSpec) -> None:
        self._spec = spec
        self._control = socket.socket(fileno=spec.control_fd)
        self._stats = StatsTable(spec.stats_path)
        self._framework = FRAMEWORKS[spec.framework]
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def warm_up(self) -> None:
        """Import everything a worker of this framework needs, and say so."""
        started = time.monotonic()
        try:
            self._framework.preload()
        except BaseException as error:  # e.g. a broken native library: the controller must know
            log.exception("cannot preload %s", self._spec.framework)
            self._tell(wire.ZygoteFailed(f"{type(error).__name__}: {error}"))
            raise SystemExit(1) from error
        _prepare_for_user_code()
        private = probe.private_bytes(os.getpid())
        self._tell(wire.ZygoteReady(time.monotonic() - started, private))

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

    def _answer(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE_BYTES, 2)
        if not data:
            return False
        spec = wire.decode_worker_spec(data)
        listener, leash = (socket.socket(fileno=fd) for fd in fds)
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(wire.ForkFailed(spec.worker_id, str(error)))
        else:
            if pid == 0:
                self._become_worker(spec, listener, leash)
            self._tell(wire.Forked(spec.worker_id, pid))
        listener.close()
        leash.close()
        return True

    def _become_worker(
        self, spec: wire.WorkerSpec, listener: socket.socket, leash: socket.socket
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            lifeline.arm(self._spec.lifeline_fd)
            gc.enable()
            self._control.close()
            os.close(self._wakeup_read)
            os.close(self._wakeup_write)
            worker.run(spec, listener, leash, self._stats.slot(spec.slot))
        except BaseException:
            log.exception("worker failed", extra={"model": spec.model_name})
        finally:
            os._exit(70)  # EX_SOFTWARE: never fall back into the zygote's loop

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
            self._tell(wire.Exited(found.si_pid, -found.si_status if killed else found.si_status))
            os.waitpid(found.si_pid, 0)

    def _tell(self, content: msgspec.Struct) -> None:
        self._control.send(wire.encode(content))


def _prepare_for_user_code() -> None:
    """Do here what every worker would do: what it writes to is copied for each of them.

    From now on nothing of ours can be imported any more. What is bound works, and the model's code
    may have modules named like our packages.
    """
    logs.capture_prints()
    sys.argv = sys.argv[:1]
    for name in list(sys.modules):
        if name.partition(".")[0] in _OWN_PACKAGES:
            del sys.modules[name]
    gc.freeze()  # keeps workers' collectors from touching, and so copying, the shared pages


def main() -> None:
    """Run the zygote that the first argument describes."""
    # Garbage freed here would leave holes, which workers fill, copying the shared page around each.
    gc.disable()
    spec = msgspec.json.decode(sys.argv[1], type=wire.ZygoteSpec)
    lifeline.arm(spec.lifeline_fd)
    probe.prefer_as_oom_victim()
    logs.configure(spec.log_level, spec.log_format)
    zygote = Zygote(spec)
    zygote.warm_up()
    try:
        zygote.run()
    except (BrokenPipeError, ConnectionResetError):
        log.debug("controller hung up")


if __name__ == "__main__":
    main()
