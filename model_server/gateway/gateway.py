"""The gateway: HTTP in front, workers and controller behind. Holds no state about models.

An invoke connects straight to the model's socket, whose path follows from the name; only when that
is not there is the controller asked. Every other route is a question to the controller.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from archives.quoting import shown
from model_server import wire
from model_server.errors import (
    BadRequest,
    MethodNotAllowed,
    RouteNotFound,
    ServerError,
    ServerUnavailable,
)
from model_server.gateway.control_client import ControlClient
from model_server.gateway.gateway_counts import Counts
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.gateway.http_protocol import Cancellable, Respond
from model_server.gateway.invocation import Invoker
from model_server.gateway.responses import json_response, problem_response
from model_server.run_dir import RunDir
from model_server.settings import MIB, SINGLE_MODEL, Settings

log = logging.getLogger("modelyard.gateway")

MAX_NAME_BYTES = 16 * 1024
_PAGE_LIMIT = 100
_DECISIONS = 100
_DECISIONS_LIMIT = 1000

_PING_LIMIT_SECONDS = 1.5

_MODELS, _INVOKE, _INVOCATIONS = "/models/", "/invoke", "/invocations"


class _LoadBody(msgspec.Struct):
    """The body of ``POST /models``; other fields are allowed and ignored."""

    model_name: str
    url: str


_decode_load = msgspec.json.Decoder(_LoadBody).decode


class Gateway:
    """Answers HTTP requests. One in each gateway process."""

    def __init__(self, settings: Settings, run_dir: RunDir) -> None:
        self._settings = settings
        self._control = ControlClient(run_dir.control_socket)
        self._loop = asyncio.get_running_loop()
        self._invoker = Invoker(settings, run_dir, self._control, self._loop)
        self._invoker.keep_time()
        self.counts = Counts(settings.access_log)
        self._limits_seen = 0

    def __call__(self, request: HttpRequest, respond: Respond) -> Cancellable | None:
        """Answer any request by calling ``respond`` once; never raises."""
        try:
            name = self._invoked(request)
        except ServerError as error:
            respond(self.refuse(error))
            return None
        if name is not None:
            return self._invoker.invoke(request, name, respond)
        return self._loop.create_task(self._answer(request, respond))

    def _invoked(self, request: HttpRequest) -> str | None:
        """The model that a request invokes, None when it is for another route."""
        path = request.path
        if request.method != "POST":
            return None
        if path.startswith(_MODELS) and path.endswith(_INVOKE):
            return _model_name(path[len(_MODELS) : -len(_INVOKE)])
        if path == _INVOCATIONS:
            if self._settings.multi_model:
                raise BadRequest(
                    "this server runs in multi-model mode; POST to /models/{name}/invoke instead"
                )
            target = request.header("x-amzn-sagemaker-target-model")
            return _target(target) if target else SINGLE_MODEL
        return None

    async def _answer(self, request: HttpRequest, respond: Respond) -> None:
        try:
            response = await self._route(request)
        except ServerError as error:
            response = self.refuse(error)
        except OSError as error:  # out of descriptors, most likely
            log.error("%s %s: %s", request.method, shown(request.path), error)
            short = ServerUnavailable(f"the server is short of resources: {error}")
            response = self.refuse(short)
        except Exception as error:
            log.exception("%s %s failed", request.method, shown(request.path))
            response = self.refuse(ServerError(f"internal error: {error!r}"))
        respond(response)

    def refuse(self, error: ServerError) -> HttpResponse:
        """The one place where an error becomes a response."""
        response = problem_response(error.problem())
        if isinstance(error, MethodNotAllowed):
            response.headers.append(("Allow", error.allow))
        return response

    async def report(self, in_flight: int) -> None:
        """Tell the controller what was served since the last time, and hear of time limits."""
        counts = self.counts.take(os.getpid(), in_flight, self._limits_seen)
        asked = self._loop.time()
        with suppress(ServerError):  # it is stopping; nobody will ask for these numbers
            limits = await self._control.ask(counts)
            assert isinstance(limits, wire.Limits)
            self._limits_seen = limits.version
            self._invoker.limits.as_of = asked
            if limits.seconds is not None:
                self._invoker.limits.seconds = limits.seconds

    # --- routes ---------------------------------------------------------------------------------

    async def _route(self, request: HttpRequest) -> HttpResponse:
        path = request.path
        if path.startswith(_MODELS):
            return await self._model_route(request, path[len(_MODELS) :])
        if path == _INVOCATIONS:
            raise _not_allowed(request.method, path, "POST")
        routes = _ROUTES.get(path)
        if routes is None:
            raise RouteNotFound(
                f"there is no route {shown(path)}; see /ping, /models, /models/{{name}}, "
                "/models/{name}/invoke, /invocations, /execution-parameters, /memory, "
                "/memory/decisions, /metrics"
            )
        answer = routes.get(request.method)
        if answer is None:
            raise _not_allowed(request.method, path, *routes)
        response = await answer(self, request)
        response.route = path
        return response

    async def _model_route(self, request: HttpRequest, rest: str) -> HttpResponse:
        if rest.endswith(_INVOKE):
            raise _not_allowed(request.method, request.path, "POST")
        name = _model_name(rest)
        match request.method:
            case "GET":
                found = await self._control.ask(wire.Get(name))
                assert isinstance(found, wire.ModelFound)
                response = json_response(found.model)
            case "DELETE":
                await self._control.ask(wire.Unload(name))
                response = json_response({"status": f"model {shown(name)} unloaded"})
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
        return json_response({"status": "Healthy"})

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
        return json_response({"status": f"model {shown(name)} loaded"})

    async def _list(self, request: HttpRequest) -> HttpResponse:
        limit, token = _paging(request.query)
        page = await self._control.ask(wire.List(limit, token))
        assert isinstance(page, wire.ModelPage)
        content: dict[str, object] = {"models": page.models}
        if page.token is not None:
            content["nextPageToken"] = base64.urlsafe_b64encode(page.token.encode()).decode()
        return json_response(content)

    async def _execution_parameters(self, _: HttpRequest) -> HttpResponse:
        return json_response(
            {
                "MaxConcurrentTransforms": self._settings.model_defaults.max_workers,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(self._settings.max_body_bytes // MIB, 1),
            }
        )

    async def _memory(self, _: HttpRequest) -> HttpResponse:
        found = await self._control.ask(wire.ShowMemory())
        assert isinstance(found, wire.MemoryInfo)
        return json_response(msgspec.structs.asdict(found))  # without the tag of the message

    async def _decisions(self, request: HttpRequest) -> HttpResponse:
        name, limit = _asked_about(request.query)
        found = await self._control.ask(wire.ShowDecisions(name, limit))
        assert isinstance(found, wire.DecisionsFound)
        return json_response({"decisions": found.decisions})

    async def _metrics(self, _: HttpRequest) -> HttpResponse:
        answer = await self._control.ask(wire.Metrics())
        assert isinstance(answer, wire.Text)
        return HttpResponse(200, "text/plain; version=0.0.4; charset=utf-8", answer.text.encode())


_ROUTES: dict[str, dict[str, Callable[[Gateway, HttpRequest], Awaitable[HttpResponse]]]] = {
    "/ping": {"GET": Gateway._ping},
    "/models": {"GET": Gateway._list, "POST": Gateway._load},
    "/execution-parameters": {"GET": Gateway._execution_parameters},
    "/memory": {"GET": Gateway._memory},
    "/memory/decisions": {"GET": Gateway._decisions},
    "/metrics": {"GET": Gateway._metrics},
}


def _not_allowed(method: str, path: str, *allowed: str) -> MethodNotAllowed:
    allow = ", ".join(allowed)
    return MethodNotAllowed(f"{method} is not possible on {shown(path)}; use {allow}", allow=allow)


def _target(header: str) -> str:
    """The archive that a header names: UTF-8, which HTTP carries as latin-1."""
    try:
        return _checked_name(header.encode("latin-1").decode().lstrip("/"))
    except UnicodeDecodeError:
        raise BadRequest(f"the archive's name {shown(header)} is not UTF-8") from None


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
    limit = _limit(values, _PAGE_LIMIT, most=_PAGE_LIMIT)
    token = values.get("next_page_token", [None])[0]
    if token is None:
        return limit, None
    try:
        return limit, base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise BadRequest("next_page_token must be one that an earlier answer gave") from None


def _asked_about(query: str) -> tuple[str | None, int]:
    """The model whose decisions are asked for, None for all, and how many at most."""
    values = parse_qs(query, keep_blank_values=True, encoding="latin-1")  # byte for byte
    limit = _limit(values, _DECISIONS, most=_DECISIONS_LIMIT)
    (name,) = values.get("model", [None])[:1]
    if name is None:
        return None, limit
    try:
        return _checked_name(name.encode("latin-1").decode()), limit
    except UnicodeDecodeError:
        raise BadRequest(f"the model name {shown(name)} is not UTF-8") from None


def _limit(values: Mapping[str, Sequence[str]], otherwise: int, *, most: int) -> int:
    try:
        limit = int(values.get("limit", [str(otherwise)])[0])
    except ValueError:
        limit = 0
    if not 1 <= limit <= most:
        raise BadRequest(f"limit must be a number from 1 to {most}")
    return limit
