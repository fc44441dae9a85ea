"""How a worker answers: one connection after another, in batches where the model takes them.

Every connection carries one request. A batch is what waits in the backlog when its first request is
taken, and what comes within the model's ``max_batch_delay_ms`` after that.

The controller says on the leash when the model is to leave its GPU, and when to come back. What is
queued is answered first. While it is away the model serves nothing.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from handlers.errors import DeviceOutOfMemory, HandlerError
from handlers.parking import free_device_cache
from handlers.types import Headers, ModelSettings, Request, Response
from model_server import logs, probe, wire
from model_server.errors import problem_of_text
from model_server.processes.replies import Reply, Sending, brief, failure, success
from model_server.stats import (
    BATCHES,
    BUSY_SINCE_NS,
    FAILED,
    FINISHED,
    FIRST_BUCKET,
    FURTHER,
    FURTHER_KEYS,
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

_MAX_ORDER_BYTES = 65536


class Answering(Protocol):
    """What this needs of a ``LoadedModel``."""

    @property
    def takes_batches(self) -> bool:
        """Whether requests may be answered together."""

    def invoke(self, request: Request) -> Response:
        """Answer one request, or raise a ``HandlerError``."""
        ...

    def try_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError] | None:
        """Answer requests together; None when each should be tried alone."""

    def park(self) -> None:
        """Release the memory of its GPU, or raise a ``HandlerError``."""

    def restore(self) -> None:
        """Come back to its GPU, or raise a ``HandlerError``."""


class Call(NamedTuple):
    """A request and the connection that its answer goes to."""

    connection: socket.socket
    key: int
    request: Request


class Serving:
    """The accept loop of a loaded model."""

    def __init__(
        self,
        service: Answering,
        listener: socket.socket,
        leash: socket.socket,
        slot: memoryview,
        settings: ModelSettings,
    ) -> None:
        self._service = service
        self._listener = listener
        self._slot = slot
        self._batch_size = settings.batch_size
        self._batch_delay_ns = int(settings.max_batch_delay_ms * 1e6)
        self._receiver = wire.Receiver()
        self._pid = os.getpid()
        listener.setblocking(False)
        self._poller = select.poll()
        self._poller.register(listener, select.POLLIN)
        self._poller.register(leash, select.POLLIN | select.POLLHUP)
        self._leash = leash
        self._leash_fd = leash.fileno()
        self._order: wire.WorkerOrder | None = None  # to be followed when the queue is empty
        self._is_parked = False
        self._is_leaving = False

    def run(self) -> None:
        """Answer requests until the leash is cut and the queue is empty."""
        while self.serve_next():
            pass

    def serve_next(self) -> bool:
        """Answer the next request, or batch of them; False when it is time to leave."""
        connection = self._next()
        if connection is None:
            return False
        calls = self._gather(connection)
        try:
            if len(calls) == 1 or (calls and not self._answer(calls)):
                for call in calls:
                    self._answer([call])
        finally:
            for call in calls:
                call.connection.close()
        return True

    # --- taking requests ------------------------------------------------------------------------

    def _next(self) -> socket.socket | None:
        """The connection that waits longest, or the next to come; None to leave."""
        while True:
            try:
                connection = self._listener.accept()[0]
            except BlockingIOError:
                if self._is_leaving:
                    return None
                self._follow_orders()
                continue
            if not self._is_parked:
                return connection
            connection.close()  # its gateway had found us before we left: it asks the controller

    def _follow_orders(self) -> None:
        """Do what the controller wants, or wait for it or for a request."""
        if self._order is not None:
            order, self._order = self._order, None
            self._move(order)
        elif any(fd == self._leash_fd for fd, _ in self._poller.poll()):
            self._hear()

    def _hear(self) -> None:
        try:
            data = self._leash.recv(_MAX_ORDER_BYTES, socket.MSG_DONTWAIT)
        except ConnectionError:
            data = b""
        if data:
            self._order = wire.decode_worker_order(data)
        else:
            self._is_leaving = True

    def _move(self, order: wire.WorkerOrder) -> None:
        """Leave the GPU or come back, and say how it went."""
        began, problem = time.monotonic(), None
        try:
            if isinstance(order, wire.Park):
                self._service.park()
            else:
                self._service.restore()
        except HandlerError as error:
            log.error("%s", error.message, exc_info=error.__cause__ or error)
            problem = problem_of_text(error.status, error.kind, brief(error.message))
        else:
            self._is_parked = isinstance(order, wire.Park)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that the model's code made and that came back
        seconds = time.monotonic() - began
        moved = wire.Moved(seconds, probe.private_bytes(self._pid), problem)
        try:
            self._leash.send(wire.encode(moved))
        except ConnectionError:
            self._is_leaving = True

    def _gather(self, connection: socket.socket) -> list[Call]:
        """The requests to answer now: that of the connection, and for a batch what else waits."""
        calls: list[Call] = []
        self._take(connection, calls)
        if self._batch_size == 1 or not self._service.takes_batches:
            return calls
        deadline_ns = time.monotonic_ns() + self._batch_delay_ns
        while len(calls) < self._batch_size:
            try:
                self._take(self._listener.accept()[0], calls)
            except BlockingIOError:
                wait_ns = deadline_ns - time.monotonic_ns()
                if not calls or wait_ns <= 0 or self._is_dull(wait_ns):
                    break
        return calls

    def _is_dull(self, wait_ns: int) -> bool:
        """Wait for another request; True when none comes in time, or the worker is to leave."""
        ready = [fd for fd, _ in self._poller.poll(wait_ns / 1e6)]
        return not ready or self._leash_fd in ready

    def _take(self, connection: socket.socket, calls: list[Call]) -> None:
        """Read the request of a connection, unless nobody waits for its answer any more."""
        try:
            if connection.gettimeout() is not None:  # user code may set a default timeout
                connection.settimeout(None)
            encoded, body = self._receiver.receive(connection)
        except ConnectionError:
            log.debug("the gateway hung up")
            connection.close()
            return
        head = wire.decode_invoke(encoded)
        waited_ns = time.monotonic_ns() - head.sent_ns
        self._slot[QUEUE_NS] += waited_ns
        if waited_ns > _CHECK_HANGUP_NS and _has_left(connection):
            self._slot[SKIPPED] += 1
            connection.close()
            return
        request = Request(body, Headers(head.headers), logs.context.model, head.request_id)
        calls.append(Call(connection, head.key, request))

    # --- answering ------------------------------------------------------------------------------

    def _answer(self, calls: list[Call]) -> bool:
        """Answer a request, or several at once; False when these must be tried one by one."""
        slot, now = self._slot, time.monotonic_ns()
        slot[REQUEST_KEY] = calls[0].key
        if len(calls) > 1:
            self._note_batch(calls)
        slot[STARTED] += len(calls)
        slot[BUSY_SINCE_NS] = now
        logs.context.request_id = calls[0].request.request_id
        answered = True
        try:
            answered = self._handle(calls)
        finally:
            if os.getpid() == self._pid:
                self._count(now, len(calls), answered)
        return answered

    def _note_batch(self, calls: Sequence[Call]) -> None:
        for index, call in enumerate(calls[1:]):
            self._slot[FURTHER_KEYS + index] = call.key
        self._slot[FURTHER] = len(calls) - 1
        self._slot[BATCHES] += 1

    def _count(self, started_ns: int, requests: int, answered: bool) -> None:
        slot, ended = self._slot, time.monotonic_ns()
        if answered:
            slot[FINISHED] += requests
            slot[FIRST_BUCKET + bucket(ended - started_ns)] += requests
        else:  # they start again, each with a time limit of its own
            slot[STARTED] -= requests
        slot[HANDLER_NS] += ended - started_ns
        slot[LAST_USED_NS] = ended
        slot[BUSY_SINCE_NS] = 0
        if requests > 1:
            slot[FURTHER] = 0
        logs.context.request_id = ""

    def _handle(self, calls: list[Call]) -> bool:
        ending: BaseException | None = None
        try:
            answers = self._answers(calls)
            if answers is None:
                return False
            results = [_logged(answer) for answer in answers]
            del answers  # errors hold on to what they were raised in the midst of
        except Exception as error:  # a fault of ours: handlers turn user errors into HandlerError
            log.exception("handler failed")
            text = f"{type(error).__name__}: {error}"
            results = [failure(500, "InternalServerException", text)] * len(calls)
        except BaseException as error:
            ending = error
            text = f"the model's code ended its process: {error!r}"
            results = [failure(500, "WorkerDiedException", text)] * len(calls)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that the model's code made and that came back
        if any(reply.head.kind == DeviceOutOfMemory.kind for reply in results):
            free_device_cache()
        self._slot[BUSY_SINCE_NS] = 0  # the model is done; how fast clients read is theirs
        self._send_all(calls, results)
        if ending is not None:
            raise ending
        return True

    def _answers(self, calls: Sequence[Call]) -> list[Response | HandlerError] | None:
        if len(calls) > 1:
            return self._service.try_batch([call.request for call in calls])
        try:
            return [self._service.invoke(calls[0].request)]
        except HandlerError as error:
            return [error]

    def _send_all(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        """Send the replies, each as fast as its client takes it, to their ends."""
        alone = len(calls) == 1
        going = []
        for call, reply in zip(calls, replies, strict=True):
            if reply.head.kind or reply.head.status >= 500:
                self._slot[FAILED] += 1
            sending = Sending(call.connection, reply, self._slot, waits=alone)
            if sending.step():
                going.append(sending)
        if going:
            self._finish(going)

    def _finish(self, going: Sequence[Sending]) -> None:
        """Send what is left, in turn to those of the clients that take something."""
        poller = select.poll()
        sendings = {sending.connection.fileno(): sending for sending in going}
        for fd in sendings:
            poller.register(fd, select.POLLOUT)
        while sendings:
            for fd, _ in poller.poll():
                if not sendings[fd].step():
                    self._slot[FAILED] += sendings.pop(fd).failed
                    poller.unregister(fd)


def _logged(result: Response | HandlerError) -> Reply:
    if isinstance(result, Response):
        return success(result)
    log.error("%s", result.message, exc_info=result.__cause__ or result)
    return failure(result.status, result.kind, result.message)


def _has_left(connection: socket.socket) -> bool:
    """Did the gateway close this connection, because its client is gone or out of time?"""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
