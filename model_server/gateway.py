"""The gateway: HTTP in front, workers and controller behind. Holds no state about models.

An invoke connects straight to the model's socket, whose path follows from the name; only when that
is not there is the controller asked. Every other route is a question to the controller.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import logging
import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from model_server import wire
from model_server.control_client import ControlClient
from model_server.errors import (
    BadRequest,
    MethodNotAllowed,
    ModelBusy,
    ModelTimeout,
    Problem,
    ProblemError,
    RouteNotFound,
    ServerError,
    ServerUnavailable,
)
from model_server.gateway_counts import Counts
from model_server.http_messages import JSON, HttpRequest, HttpResponse
from model_server.model_dirs import shown
from model_server.run_dir import RunDir
from model_server.settings import MIB, Settings
from model_server.worker_client import Cold, QueueFull, WorkerCall

log = logging.getLogger("modelyard.gateway")

SINGLE_MODEL = "model"
MAX_NAME_BYTES = 16 * 1024
_PAGE_LIMIT = 100

# How often a request may find its model gone between two looks before that is called an error.
_ATTEMPTS = 20

_PING_LIMIT_SECONDS = 1.5

# Headers of a model's answer that belong to the connection and are ours to set.
_OURS = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "server",
     "transfer-encoding", "upgrade"}
)  # fmt: skip


class _LoadBody(msgspec.Struct):
    """The body of ``POST /models``; other fields are allowed and ignored."""

    model_name: str
    url: str


_decode_load = msgspec.json.Decoder(_LoadBody).decode
_to_json = msgspec.json.encode


class Gateway:
    """Answers HTTP requests. One in each gateway process."""

    def __init__(self, settings: Settings, run_dir: RunDir) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._control = ControlClient(run_dir.control_socket)
        self._loop = asyncio.get_running_loop()
        # Unique over all gateways, past ones too: random high half, a counter in the low one.
        self._keys = itertools.count(secrets.randbits(31) << 32)
        self.counts = Counts(settings.access_log)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer any request; never raises but for cancellation."""
        self.counts.in_flight += 1
        try:
            return await self._route(request)
        except ServerError as error:
            return self.refuse(error)
        except OSError as error:  # out of descriptors, most likely
            log.error("%s %s: %s", request.method, shown(request.path), error)
            return self.refuse(ServerUnavailable(f"the server is short of resources: {error}"))
        except Exception as error:
            log.exception("%s %s failed", request.method, shown(request.path))
            return self.refuse(ServerError(f"internal error: {error!r}"))
        finally:
            self.counts.in_flight -= 1

    def refuse(self, error: ServerError) -> HttpResponse:
        """The one place where an error becomes a response."""
        response = problem_response(error.problem())
        if isinstance(error, MethodNotAllowed):
            response.headers.append(("Allow", error.allow))
        return response

    async def report(self) -> None:
        """Tell the controller what was served since the last time."""
        with suppress(ServerError):  # it is stopping; nobody will ask for these numbers
            await self._control.ask(self.counts.take(os.getpid()))

    # --- routes ---------------------------------------------------------------------------------

    async def _route(self, request: HttpRequest) -> HttpResponse:
        path = request.path
        if path.startswith("/models/"):
            return await self._model_route(request, path[len("/models/") :])
        routes = _ROUTES.get(path)
        if routes is None:
            raise RouteNotFound(
                f"there is no route {shown(path)}; see /ping, /models, /models/{{name}}, "
                "/models/{name}/invoke, /invocations, /execution-parameters, /metrics"
            )
        answer = routes.get(request.method)
        if answer is None:
            raise _not_allowed(request.method, path, *routes)
        response = await answer(self, request)
        response.route = path
        return response

    async def _model_route(self, request: HttpRequest, rest: str) -> HttpResponse:
        if rest.endswith("/invoke"):
            if request.method != "POST":
                raise _not_allowed(request.method, request.path, "POST")
            return await self._invoke(request, _model_name(rest[: -len("/invoke")]))
        name = _model_name(rest)
        match request.method:
            case "GET":
                found = await self._control.ask(wire.Get(name))
                assert isinstance(found, wire.ModelFound)
                response = _json(found.model)
            case "DELETE":
                await self._control.ask(wire.Unload(name))
                response = _json({"status": f"model {shown(name)} unloaded"})
            case _:
                raise _not_allowed(request.method, request.path, "GET", "DELETE")
        response.route = "/models/{name}"
        return response

    async def _ping(self, _: HttpRequest) -> HttpResponse:
        try:
            async with asyncio.timeout(_PING_LIMIT_SECONDS):
                await self._control.ask(wire.Ping())
        except TimeoutError:
            raise ServerUnavailable("the server does not answer in time") from None
        return _json({"status": "Healthy"})

    async def _load(self, request: HttpRequest) -> HttpResponse:
        try:
            body = _decode_load(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(
                'the body must be JSON like {"model_name": "…", "url": "/opt/ml/models/…"}: '
                f"{error}"
            ) from None
        name = _checked_name(body.model_name)
        await self._control.ask(wire.Load(name, body.url))
        return _json({"status": f"model {shown(name)} loaded"})

    async def _list(self, request: HttpRequest) -> HttpResponse:
        limit, token = _paging(request.query)
        page = await self._control.ask(wire.List(limit, token))
        assert isinstance(page, wire.ModelPage)
        content: dict[str, object] = {"models": page.models}
        if page.token is not None:
            content["nextPageToken"] = base64.urlsafe_b64encode(page.token.encode()).decode()
        return _json(content)

    async def _invocations(self, request: HttpRequest) -> HttpResponse:
        if self._settings.multi_model:
            raise BadRequest(
                "this server runs in multi-model mode; POST to /models/{name}/invoke instead"
            )
        return await self._invoke(request, SINGLE_MODEL)

    async def _execution_parameters(self, _: HttpRequest) -> HttpResponse:
        return _json(
            {
                "MaxConcurrentTransforms": self._settings.workers_per_model,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(self._settings.max_body_bytes // MIB, 1),
            }
        )

    async def _metrics(self, _: HttpRequest) -> HttpResponse:
        answer = await self._control.ask(wire.Metrics())
        assert isinstance(answer, wire.Text)
        return HttpResponse(200, "text/plain; version=0.0.4; charset=utf-8", answer.text.encode())

    # --- invoke ---------------------------------------------------------------------------------

    async def _invoke(self, request: HttpRequest, name: str) -> HttpResponse:
        key = next(self._keys)
        request_id = request.header("x-amzn-sagemaker-inference-id") or f"{key:016x}"
        try:
            response = await self._invoke_model(request, name, key, request_id)
        except ServerError as error:
            response = self.refuse(error)
        response.route = "/models/{name}/invoke"
        response.request_id = request_id
        return response

    async def _invoke_model(
        self, request: HttpRequest, name: str, key: int, request_id: str
    ) -> HttpResponse:
        path = self._run_dir.model_socket(name)
        headers = tuple(request.headers)
        limit = self._settings.request_timeout_seconds
        deadline = self._loop.time() + limit
        for _ in range(_ATTEMPTS):
            head = wire.frame_head(
                wire.InvokeHead(key, time.monotonic_ns(), request_id, headers), len(request.body)
            )
            try:
                return await self._call_worker(path, head, request.body, deadline)
            except Cold:
                await self._ensure(name, deadline)
            except QueueFull:
                raise ModelBusy(
                    f"{shown(name)} has {self._settings.queue_size} requests waiting; "
                    "MODELYARD_QUEUE_SIZE sets how many may"
                ) from None
            except wire.Hangup:
                await self._explain_hangup(name, key)
            except TimeoutError:
                raise ModelTimeout(f"the request took more than {limit:g} seconds") from None
        raise ServerUnavailable(f"{shown(name)} comes and goes; try again", retry_after_seconds=1)

    async def _call_worker(
        self, path: str, head: bytes, body: bytes | bytearray, deadline: float
    ) -> HttpResponse:
        call = WorkerCall(self._loop, path, self._settings.max_body_bytes)
        keep_open = False
        try:
            call.send(head, body, deadline)
            reply_head, reply_body = await call.reply
            keep_open = len(reply_body) < call.body_bytes
            return _reply(reply_head, reply_body, call)
        finally:
            if not keep_open:
                call.close()

    async def _ensure(self, name: str, deadline: float) -> None:
        """Ask the controller to make the model hot, within the time of the request."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._control.ask(wire.Ensure(name))
        except TimeoutError:
            raise ModelTimeout(f"{shown(name)} was not ready in time") from None

    async def _explain_hangup(self, name: str, key: int) -> None:
        """Raise what became of the request; return when no worker had begun it."""
        found = await self._control.ask(wire.Fate(name, key))
        assert isinstance(found, wire.FateFound)
        if found.problem is not None:
            raise ProblemError(found.problem)


_ROUTES: dict[str, dict[str, Callable[[Gateway, HttpRequest], Awaitable[HttpResponse]]]] = {
    "/ping": {"GET": Gateway._ping},
    "/models": {"GET": Gateway._list, "POST": Gateway._load},
    "/invocations": {"POST": Gateway._invocations},
    "/execution-parameters": {"GET": Gateway._execution_parameters},
    "/metrics": {"GET": Gateway._metrics},
}


def problem_response(problem: Problem) -> HttpResponse:
    """The JSON answer for a problem."""
    response = HttpResponse(problem.status, JSON, problem.body())
    if problem.retry_after_seconds is not None:
        response.headers.append(("Retry-After", str(math.ceil(problem.retry_after_seconds))))
    return response


def _json(content: object) -> HttpResponse:
    return HttpResponse(200, JSON, _to_json(content))


def _reply(head: wire.ReplyHead, body: bytes | bytearray, call: WorkerCall) -> HttpResponse:
    if head.kind:
        return problem_response(Problem(head.status, head.kind, bytes(body).decode()))
    headers = [(name, value) for name, value in head.headers if name.lower() not in _OURS]
    response = HttpResponse(head.status, head.content_type, body, headers)
    if len(body) < call.body_bytes:
        response.stream, response.length = call.rest(), call.body_bytes
    return response


def _not_allowed(method: str, path: str, *allowed: str) -> MethodNotAllowed:
    allow = ", ".join(allowed)
    return MethodNotAllowed(f"{method} is not possible on {shown(path)}; use {allow}", allow=allow)


def _model_name(encoded: str) -> str:
    """The model's name from its part of the path. Never a path itself, whatever is in it."""
    if "%" not in encoded and encoded.isascii():
        return _checked_name(encoded)
    try:
        return _checked_name(unquote_to_bytes(encoded.encode("latin-1")).decode())
    except UnicodeDecodeError:
        raise BadRequest(f"the model name {shown(encoded)} is not UTF-8") from None


def _checked_name(name: str) -> str:
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_NAME_BYTES:
        raise BadRequest(f"a model name has 1 to {MAX_NAME_BYTES} bytes, this one {size}")
    return name


def _paging(query: str) -> tuple[int, str | None]:
    """Limit and last name seen, from ``limit`` and ``next_page_token``."""
    values = parse_qs(query, keep_blank_values=True)
    try:
        limit = int(values.get("limit", [str(_PAGE_LIMIT)])[0])
    except ValueError:
        limit = 0
    if not 1 <= limit <= _PAGE_LIMIT:
        raise BadRequest(f"limit must be a number from 1 to {_PAGE_LIMIT}")
    token = values.get("next_page_token", [None])[0]
    if token is None:
        return limit, None
    try:
        return limit, base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise BadRequest("next_page_token must be one that an earlier answer gave") from None
