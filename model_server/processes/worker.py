"""A model's process: loads the model, then answers requests, or forks others that do, until told to
stop.

The listening socket belongs to the controller and outlives this process, so a request that waits
in its backlog is lost by nobody's death. The leash is a socket to the controller: it carries the
outcome of the load up, and its closing means "finish what is queued, then leave".

A model that may have several workers is loaded once, in a template: a process that serves nothing
itself but forks the workers, which so share all of the model's memory and are ready in
milliseconds. That is safe only while the loaded process has a single thread, no child processes and
nothing open that only one process may use.

User code is not trusted to behave: it may raise, exit, fork, print megabytes, close descriptors or
change directory. An ``Exception`` fails its request; anything else ends the process.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from archives.quoting import shown
from handlers.errors import HandlerError
from handlers.frameworks import FRAMEWORKS
from handlers.service import LoadedModel, load_service
from model_server import logs, probe, wire
from model_server.errors import Problem, problem_of_text
from model_server.processes.data_limit import limit_growth, limit_load
from model_server.processes.descriptors import Descriptor, descriptors_of_this_process, opened_since
from model_server.processes.fork_loop import ForkLoop
from model_server.processes.replies import brief
from model_server.processes.serving import Serving
from model_server.stats import StatsTable

log = logging.getLogger("modelyard.worker")

_EXIT_DRAINED = 0
_EXIT_LOAD_FAILED = 3
_EXIT_ASKED_BY_USER_CODE = 4


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker has of its server: its sockets, the lifeline, the table of counters."""

    listener: socket.socket
    leash: socket.socket
    lifeline_fd: int
    stats: StatsTable


def run(spec: wire.WorkerSpec, place: Place) -> NoReturn:
    """Be the worker that ``spec`` describes. Called in a fresh fork; does not return."""
    logs.context.model = spec.model_name
    started = time.monotonic()
    before = descriptors_of_this_process() if spec.template else set()
    limit_load(spec)
    _stand_back()
    service = _load(spec, place.leash)
    _step_forward()
    gc.freeze()  # the model stays: no need to look through it for garbage
    can_fork = spec.template and _is_shareable(service, before)
    private = probe.private_bytes(os.getpid())
    limit_growth(spec, private)
    can_park = service.parking is not None
    seconds, passing = time.monotonic() - started, probe.passing_bytes()
    _say(place.leash, wire.WorkerReady(seconds, private, can_fork, can_park, passing))
    if can_fork:
        _be_template(spec, place, service)
    _serve(spec, place, service)


def _stand_back() -> None:
    """Load without interrupting models that answer requests: they get the processor first."""
    with suppress(OSError):  # some sandboxes do not let a process do so
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _step_forward() -> None:
    """From now on be scheduled as usual, with all threads that the load has started."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def _is_shareable(service: LoadedModel, before: Set[Descriptor]) -> bool:
    """Whether forks of this process would leave each other alone; if not, the log says why."""
    reasons = list(_reasons_not_to_share(service, before))
    if reasons:
        log.info("each process loads the model for itself: %s", " and ".join(reasons))
    return not reasons


def _reasons_not_to_share(service: LoadedModel, before: Set[Descriptor]) -> Iterator[str]:
    if probe.threads_of_this_process() > 1:
        yield "it has started threads"
    if probe.has_children():  # they have inherited the leash and could speak for this process
        yield "it has started processes"
    opened = opened_since(before)
    if not service.can_fork or not all(each.is_file for each in opened):
        yield "it keeps connections, pipes or an event loop open"
    files = sorted({each.target for each in opened if each.is_file})
    if files:  # whoever reads would move the place at which the others read on
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        yield f"it keeps a file open, {shown(files[0])}{more}"


def _serve(spec: wire.WorkerSpec, place: Place, service: LoadedModel) -> NoReturn:
    slot, settings = place.stats.slot(spec.slot), spec.plan.settings
    try:
        Serving(service, place.listener, place.leash, slot, settings).run()
        service.finalize()
    except BaseException as error:
        _log_exit(error)
        _leave(_EXIT_ASKED_BY_USER_CODE)
    _leave(_EXIT_DRAINED)


def _be_template(spec: wire.WorkerSpec, place: Place, service: LoadedModel) -> NoReturn:
    """Fork workers of the loaded model until the leash is cut."""

    def become(fork: wire.WorkerSpec, listener: socket.socket, leash: socket.socket) -> None:
        place.listener.close()
        FRAMEWORKS[spec.plan.framework].after_fork(spec.resources.threads)
        there = Place(listener, leash, place.lifeline_fd, place.stats)
        private = probe.private_bytes(os.getpid())
        _say(leash, wire.WorkerReady(0.0, private, can_park=service.parking is not None))
        _serve(fork, there, service)

    try:
        ForkLoop(place.leash, place.lifeline_fd, become).run()
    except ConnectionError:
        log.debug("the controller hung up")
    _leave(_EXIT_DRAINED)


def _load(spec: wire.WorkerSpec, leash: socket.socket) -> LoadedModel:
    pid = os.getpid()
    _enter(spec.plan.model_dir, leash)
    try:
        service = load_service(
            spec.plan,
            model_name=spec.model_name,
            options=spec.options,
            resources=spec.resources,
        )
    except HandlerError as error:
        _end_if_not(pid)
        log.exception("load failed")
        _fail_load(leash, problem_of_text(error.status, error.kind, brief(error.message)))
    except BaseException as error:
        _end_if_not(pid)
        _log_exit(error)
        _fail_load(
            leash,
            problem_of_text(
                500, "ModelLoadException", brief(f"the model's code ended its process: {error!r}")
            ),
        )
    _end_if_not(pid)
    return service


def _end_if_not(pid: int) -> None:
    """End a fork that the model's code made and that came back: it must not speak for us."""
    if os.getpid() != pid:
        os._exit(0)


def _enter(model_dir: str, leash: socket.socket) -> None:
    """Work in the model's directory, as its code may open files by relative paths."""
    try:
        os.chdir(model_dir)
    except OSError as error:
        message = f"the model's directory {model_dir} cannot be entered: {error.strerror}"
        _fail_load(leash, problem_of_text(500, "ModelLoadException", message))


def _fail_load(leash: socket.socket, problem: Problem) -> NoReturn:
    _say(leash, wire.WorkerFailed(problem))
    _leave(_EXIT_LOAD_FAILED)


def _say(leash: socket.socket, word: wire.WorkerMessage) -> None:
    leash.send(wire.encode(word))


def _log_exit(error: BaseException) -> None:
    log.error("the model's code ended its process: %r", error, exc_info=error)


def _leave(code: int) -> NoReturn:
    """End at once: no waiting for threads, no exit handlers that could hang."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (ValueError, OSError, AttributeError):
            log.debug("the model's code closed %r", stream)
    os._exit(code)
