"""A zygote: a clean interpreter that has imported a framework and forks one worker a request.

Started by the controller as ``python -P -m model_server.processes.zygote SPEC``. Measured rules:
importing before the fork is safe; computing with more than one thread is not (children hang on an
OpenMP team that the fork left behind); one warm-up pass on one thread is safe and makes the first
prediction fast; CUDA must not be touched; forks come from the main thread only. So this process is
single-threaded and does nothing but run the fork loop.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import time

import msgspec

from handlers.frameworks import FRAMEWORKS
from model_server import logs, probe, wire
from model_server.processes import lifeline, worker
from model_server.processes.fork_loop import ForkLoop
from model_server.processes.rehearsal import rehearse
from model_server.stats import StatsTable

log = logging.getLogger("modelyard.zygote")

_OWN_PACKAGES = ("archives", "container", "endpoint", "handlers", "model_server")


class Zygote:
    """An interpreter with one framework, and the loop that forks from it."""

    def __init__(self, spec: wire.ZygoteSpec) -> None:
        self._spec = spec
        self._stats = StatsTable(spec.stats_path)
        self._framework = FRAMEWORKS[spec.framework]
        control = socket.socket(fileno=spec.control_fd)
        self._loop = ForkLoop(control, spec.lifeline_fd, self._become_worker)

    def warm_up(self) -> None:
        """Import everything a worker of this framework needs, and say so."""
        started = time.monotonic()
        try:
            self._framework.preload()
            rehearse()
        except BaseException as error:  # e.g. a broken native library: the controller must know
            log.exception("cannot preload %s", self._spec.framework)
            self._loop.tell(wire.ZygoteFailed(f"{type(error).__name__}: {error}"))
            raise SystemExit(1) from error
        _prepare_for_user_code()
        private = probe.private_bytes(os.getpid())
        self._loop.tell(wire.ZygoteReady(time.monotonic() - started, private))

    def run(self) -> None:
        """Fork and reap until the controller hangs up."""
        self._loop.run()

    def _become_worker(
        self, spec: wire.WorkerSpec, listener: socket.socket, leash: socket.socket
    ) -> None:
        gc.enable()
        place = worker.Place(listener, leash, self._spec.lifeline_fd, self._stats)
        worker.run(spec, place)


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
