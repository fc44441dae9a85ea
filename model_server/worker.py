"""A model's process: loads the model, then answers one connection after another until told to stop.

The listening socket belongs to the controller and outlives this process, so a request that waits
in its backlog is lost by nobody's death. The leash is a socket to the controller: it carries the
outcome of the load up, and its closing means "finish what is queued, then leave".

User code is not trusted to behave: it may raise, exit, fork, print megabytes, close descriptors or
change directory. An ``Exception`` fails its request; anything else ends the process.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import socket
import sys
import time
from typing import NoReturn

from handlers.errors import HandlerError
from handlers.service import load_service
from handlers.types import Headers, Request, Response, Service
from model_server import logs, probe, wire
from model_server.errors import Problem, problem_of_text
from model_server.stats import (
    BUSY_SINCE_NS,
    FAILED,
    FINISHED,
    FIRST_BUCKET,
    HANDLER_NS,
    LAST_USED_NS,
    QUEUE_NS,
    REQUEST_KEY,
    SKIPPED,
    STARTED,
    bucket,
)

log = logging.getLogger("modelyard.worker")

# A request that waited less than this was surely not given up: spare the system call.
_CHECK_HANGUP_NS = 20_000_000

_MAX_MESSAGE_CHARS = 4096

_EXIT_DRAINED = 0
_EXIT_LOAD_FAILED = 3
_EXIT_ASKED_BY_USER_CODE = 4


def run(
    spec: wire.WorkerSpec,
    listener: socket.socket,
    leash: socket.socket,
    slot: memoryview,
) -> NoReturn:
    """Be the worker that ``spec`` describes. Called in a fresh fork; does not return."""
    logs.context.model = spec.model_name
    service = _load(spec, leash)
    try:
        gc.freeze()  # the model stays: no need to look through it for garbage
        Worker(service, listener, leash, slot).serve()
    except BaseException as error:
        _log_exit(error)
        _leave(_EXIT_ASKED_BY_USER_CODE)
    _leave(_EXIT_DRAINED)


def _load(spec: wire.WorkerSpec, leash: socket.socket) -> Service:
    started, pid = time.monotonic(), os.getpid()
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
        _fail_load(leash, problem_of_text(error.status, error.kind, _brief(error.message)))
    except BaseException as error:
        _end_if_not(pid)
        _log_exit(error)
        _fail_load(
            leash,
            problem_of_text(
                500, "ModelLoadException", _brief(f"the model's code ended its process: {error!r}")
            ),
        )
    _end_if_not(pid)
    leash.send(
        wire.encode(wire.WorkerReady(time.monotonic() - started, probe.private_bytes(os.getpid())))
    )
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
    leash.send(wire.encode(wire.WorkerFailed(problem)))
    _leave(_EXIT_LOAD_FAILED)


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


class Worker:
    """The accept loop of a loaded model."""

    def __init__(
        self, service: Service, listener: socket.socket, leash: socket.socket, slot: memoryview
    ) -> None:
        self._service = service
        self._listener = listener
        self._slot = slot
        self._receiver = wire.Receiver()
        self._pid = os.getpid()
        listener.setblocking(False)
        self._poller = select.poll()
        self._poller.register(listener, select.POLLIN)
        self._poller.register(leash, select.POLLIN | select.POLLHUP)
        self._leash_fd = leash.fileno()

    def serve(self) -> None:
        """Answer requests until the leash is cut and the queue is empty."""
        draining = False
        while True:
            try:
                connection = self._listener.accept()[0]
            except BlockingIOError:
                if draining:
                    return
                draining = any(fd == self._leash_fd for fd, _ in self._poller.poll())
                continue
            try:
                if connection.gettimeout() is not None:  # user code may set a default timeout
                    connection.settimeout(None)
                self._answer(connection)
            except (wire.Hangup, BrokenPipeError, ConnectionResetError):
                log.debug("the gateway hung up")
            finally:
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        encoded, body = self._receiver.receive(connection)
        head = wire.decode_invoke(encoded)
        slot, now = self._slot, time.monotonic_ns()
        slot[QUEUE_NS] += now - head.sent_ns
        if now - head.sent_ns > _CHECK_HANGUP_NS and _has_left(connection):
            slot[SKIPPED] += 1
            return
        slot[REQUEST_KEY] = head.key
        slot[STARTED] += 1
        slot[BUSY_SINCE_NS] = now
        logs.context.request_id = head.request_id
        try:
            self._handle(connection, head, body)
        finally:
            if os.getpid() == self._pid:
                ended = time.monotonic_ns()
                slot[FINISHED] += 1
                slot[HANDLER_NS] += ended - now
                slot[FIRST_BUCKET + bucket(ended - now)] += 1
                slot[LAST_USED_NS] = ended
                slot[BUSY_SINCE_NS] = 0
                logs.context.request_id = ""

    def _handle(self, connection: socket.socket, head: wire.InvokeHead, body: bytes) -> None:
        request = Request(body, Headers(head.headers), logs.context.model, head.request_id)
        ending: BaseException | None = None
        try:
            reply = _success(self._service.invoke(request))
        except HandlerError as error:
            log.error("%s", error.message, exc_info=error.__cause__ or error)
            reply = _failure(error.status, error.kind, error.message)
        except Exception as error:  # a fault of ours: handlers turn user errors into HandlerError
            log.exception("handler failed")
            reply = _failure(500, "InternalServerException", f"{type(error).__name__}: {error}")
        except BaseException as error:
            ending = error
            text = f"the model's code ended its process: {error!r}"
            reply = _failure(500, "WorkerDiedException", text)
        _end_if_not(self._pid)
        if reply[0].kind or reply[0].status >= 500:
            self._slot[FAILED] += 1
        self._slot[BUSY_SINCE_NS] = 0  # the model is done; how fast its client reads is another's
        _send(connection, *reply)
        if ending is not None:
            raise ending


def _success(response: Response) -> tuple[wire.ReplyHead, bytes]:
    head = wire.ReplyHead(response.status, response.content_type, response.headers)
    return head, response.body


def _failure(status: int, kind: str, message: str) -> tuple[wire.ReplyHead, bytes]:
    return wire.ReplyHead(status, kind=kind), _brief(message).encode("utf-8", "backslashreplace")


def _brief(message: str) -> str:
    """An exception's text may be megabytes (an array's repr, say); the log has it whole."""
    if len(message) <= _MAX_MESSAGE_CHARS:
        return message
    return f"{message[:_MAX_MESSAGE_CHARS]}… ({len(message)} characters in all)"


def _send(connection: socket.socket, head: wire.ReplyHead, body: bytes) -> None:
    start = wire.frame_head(head, len(body))
    if len(body) < wire.JOINED_BYTES:
        connection.sendall(start + body)
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.LARGE_SEND_BYTES)
    sent = connection.sendmsg((start, body))
    if sent < len(start):
        connection.sendall(start[sent:])
        sent = len(start)
    if sent < len(start) + len(body):
        connection.sendall(memoryview(body)[sent - len(start) :])


def _has_left(connection: socket.socket) -> bool:
    """Did the gateway close this connection, because its client is gone or out of time?"""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
