"""One invoke, from its first attempt to its answer.

The first attempt runs on callbacks: a task and a future for each request would cost two more turns
of the event loop, a third of the gateway's time. Only when it does not answer, because the model is
not hot or its process died, a task takes over.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from archives.quoting import shown
from handlers.errors import DeviceOutOfMemory
from model_server import wire
from model_server.errors import (
    ModelBusy,
    ModelTimeout,
    Problem,
    ProblemError,
    ServerError,
    ServerUnavailable,
)
from model_server.gateway.control_client import ControlClient
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.gateway.http_protocol import Respond
from model_server.gateway.responses import problem_response
from model_server.gateway.worker_client import Cold, QueueFull, WorkerCall
from model_server.run_dir import RunDir
from model_server.settings import Settings

log = logging.getLogger("modelyard.gateway")

ROUTE = "/models/{name}/invoke"

# Microseconds that a request waited until its model was in memory; a hot model's answer has none.
LOADING_WAIT_TIME = "X-Modelyard-Loading-Wait-Time"

# How often a request may find its model gone between two looks before that is called an error.
_ATTEMPTS = 20

# Headers of a model's answer that belong to the connection and are ours to set.
_OURS = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "server",
     "transfer-encoding", "upgrade"}
)  # fmt: skip


# A request has lasted longer than this before the limits of a moment after its beginning are known.
_HEARD_SECONDS = 2.0


def _random_start() -> itertools.count[int]:
    """Keys unique over all gateways, past ones too: a random high half, a counter in the low."""
    return itertools.count(secrets.randbits(31) << 32)


class DeviceFull(Exception):
    """Raised when the model's GPU had too little memory for a request; ``problem`` says it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Limits:
    """Time limits of models that have one of their own, by name, as they were at ``as_of``."""

    seconds: dict[str, float] = field(default_factory=dict)
    as_of: float = -inf


@dataclass(frozen=True, slots=True)
class Invoker:
    """What all invokes of a gateway share.

    ``limits`` may become known while a request is under way. One timer looks after all that are
    ``under_way``: a timer for each would be a tenth of the gateway's time.
    """

    settings: Settings
    run_dir: RunDir
    control: ControlClient
    loop: asyncio.AbstractEventLoop
    keys: itertools.count[int] = field(default_factory=_random_start)
    under_way: dict[int, Invocation] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def keep_time(self) -> None:
        """End, from now on, what is over its time limit."""
        shortest = min([self.settings.request_timeout_seconds, *self.limits.seconds.values()])
        self.loop.call_later(min(max(shortest / 20, 0.02), 0.5), self.keep_time)
        now = self.loop.time()
        for invocation in [i for i in self.under_way.values() if i.deadline < now]:
            invocation.expire()

    def invoke(self, request: HttpRequest, name: str, respond: Respond) -> Invocation:
        """Begin; ``respond`` is called once, unless the result is cancelled first."""
        invocation = Invocation(self, request, name, respond)
        invocation.begin()
        return invocation


class Invocation:
    """A request to a model, under way."""

    __slots__ = (
        "_call",
        "_invoker",
        "_key",
        "_name",
        "_request",
        "_request_id",
        "_respond",
        "_room_was_made",
        "_started",
        "_task",
        "_waited_seconds",
    )  # fmt: skip

    def __init__(self, invoker: Invoker, request: HttpRequest, name: str, respond: Respond) -> None:
        self._invoker = invoker
        self._request = request
        self._name = name
        self._respond = respond
        self._key = next(invoker.keys)
        self._request_id = request.header("x-amzn-sagemaker-inference-id") or f"{self._key:016x}"
        self._started = invoker.loop.time()
        self._call: WorkerCall | None = None
        self._task: asyncio.Task[None] | None = None
        self._room_was_made = False
        self._waited_seconds = 0.0

    @property
    def limit_seconds(self) -> float:
        """How long it may take."""
        invoker = self._invoker
        return invoker.limits.seconds.get(self._name, invoker.settings.request_timeout_seconds)

    @property
    def deadline(self) -> float:
        """When its time is over, by the loop's clock.

        The limit that is known may be that of a model which had this name before.
        """
        if self._invoker.limits.as_of < self._started:
            return self._started + max(self.limit_seconds, _HEARD_SECONDS)
        return self._started + self.limit_seconds

    def begin(self) -> None:
        """The first attempt."""
        self._invoker.under_way[self._key] = self
        try:
            self._attempt(self._first_done)
        except Cold as trouble:
            self._take_over(trouble)
        except QueueFull:
            self._fail(self._busy())
        except OSError as error:
            self._fail(_short_of_resources(error))

    def cancel(self) -> None:
        """Give it up: its client has left."""
        self._invoker.under_way.pop(self._key, None)
        if self._task is not None:
            self._task.cancel()
        elif self._call is not None:
            self._call.close()

    def expire(self) -> None:
        """Its time is over. What the controller is asked has a limit of its own."""
        self._invoker.under_way.pop(self._key, None)
        if self._call is not None:
            self._call.expire()

    def _attempt(self, done: Callable[[WorkerCall], None]) -> WorkerCall:
        invoker, request = self._invoker, self._request
        path = invoker.run_dir.model_socket(self._name)
        limit = invoker.settings.max_body_bytes
        call = self._call = WorkerCall(invoker.loop, path, limit, done)
        head = wire.InvokeHead(
            self._key, time.monotonic_ns(), self._request_id, tuple(request.headers)
        )
        body = request.body
        call.send(wire.frame_head(head, len(body)), body)
        return call

    def _first_done(self, call: WorkerCall) -> None:
        try:
            response = self._response(call)
        except (wire.Hangup, DeviceFull) as trouble:
            self._take_over(trouble)
        except TimeoutError:
            self._fail(self._too_slow())
        else:
            self._answer(response)

    def _answer(self, response: HttpResponse) -> None:
        self._invoker.under_way.pop(self._key, None)
        response.route = ROUTE
        response.request_id = self._request_id
        if self._waited_seconds:
            microseconds = str(round(self._waited_seconds * 1_000_000))
            response.headers.append((LOADING_WAIT_TIME, microseconds))
        self._respond(response)

    def _fail(self, error: ServerError) -> None:
        self._answer(problem_response(error.problem()))

    # --- when the first attempt has not answered ------------------------------------------------

    def _take_over(self, trouble: Exception) -> None:
        self._task = self._invoker.loop.create_task(self._go_on(trouble))

    async def _go_on(self, trouble: Exception) -> None:
        """Find out what is the matter and try again, until there is an answer."""
        try:
            response = await self._retry(trouble)
        except ServerError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_short_of_resources(error))
        except Exception as error:
            log.exception("invoke of %s failed", shown(self._name))
            self._fail(ServerError(f"internal error: {error!r}"))
        else:
            self._answer(response)

    async def _retry(self, trouble: Exception) -> HttpResponse:
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout_at(self.deadline):
                    await self._settle(trouble)
                return await self._attempt_again()
            except (Cold, wire.Hangup, DeviceFull) as again:
                trouble = again
                self._call = None
            except QueueFull:
                raise self._busy() from None
            except TimeoutError:
                raise self._too_slow() from None
        name = shown(self._name)
        raise ServerUnavailable(f"{name} comes and goes; try again", retry_after_seconds=1)

    async def _settle(self, trouble: Exception) -> None:
        """Return when another attempt makes sense. Raises why it does not."""
        if isinstance(trouble, Cold):
            await self._wait_for_the_model()
            return
        if isinstance(trouble, DeviceFull):
            await self._make_room(trouble)
            return
        found = await self._invoker.control.ask(wire.Fate(self._name, self._key))
        assert isinstance(found, wire.FateFound)
        if found.problem is not None:
            raise ProblemError(found.problem)

    async def _wait_for_the_model(self) -> None:
        begun = time.monotonic()  # the loop's clock counts whole milliseconds
        try:
            await self._invoker.control.ask(wire.Ensure(self._name))
        finally:
            self._waited_seconds += time.monotonic() - begun

    async def _make_room(self, trouble: DeviceFull) -> None:
        """Have the controller free memory of the GPU, or raise what the model said."""
        self._room_was_made = True
        try:
            await self._invoker.control.ask(wire.MakeRoom(self._name))
        except ServerError as error:
            log.info("no room could be made on the GPU of %s: %s", shown(self._name), error.message)
            raise ProblemError(trouble.problem) from error

    async def _attempt_again(self) -> HttpResponse:
        if self._invoker.loop.time() >= self.deadline:
            raise TimeoutError
        done: asyncio.Future[None] = self._invoker.loop.create_future()
        call = self._attempt(lambda _: None if done.done() else done.set_result(None))
        try:
            await done
        except asyncio.CancelledError:
            call.close()
            raise
        return self._response(call)

    def _response(self, call: WorkerCall) -> HttpResponse:
        """The answer as HTTP. Raises Hangup, TimeoutError, or DeviceFull the first time."""
        response = _response(call)
        head, body = call.result()
        if head.kind == DeviceOutOfMemory.kind and not self._room_was_made:
            raise DeviceFull(Problem(head.status, head.kind, bytes(body).decode()))
        return response

    def _busy(self) -> ModelBusy:
        return ModelBusy(
            f"{shown(self._name)} has {self._invoker.settings.queue_size} requests waiting; "
            "MODELYARD_QUEUE_SIZE sets how many may"
        )

    def _too_slow(self) -> ModelTimeout:
        return ModelTimeout(f"the request took more than {self.limit_seconds:g} seconds")


def _response(call: WorkerCall) -> HttpResponse:
    """The answer as HTTP. Raises Hangup or TimeoutError."""
    try:
        head, body = call.result()
    except Exception:
        call.close()
        raise
    if head.streams:
        response = HttpResponse(head.status, head.content_type, headers=_passed_on(head))
        response.stream = call.chunks()
        return response
    if len(body) < call.body_bytes:
        response = HttpResponse(head.status, head.content_type, headers=_passed_on(head))
        response.stream, response.length = call.rest(), call.body_bytes
        return response
    call.close()
    if head.kind:
        return problem_response(Problem(head.status, head.kind, bytes(body).decode()))
    return HttpResponse(head.status, head.content_type, body, _passed_on(head))


def _passed_on(head: wire.ReplyHead) -> list[tuple[str, str]]:
    return [(name, value) for name, value in head.headers if name.lower() not in _OURS]


def _short_of_resources(error: OSError) -> ServerUnavailable:
    log.error("cannot reach a model: %s", error)
    return ServerUnavailable(f"the server is short of resources: {error}")
