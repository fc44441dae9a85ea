"""The APIs on one port: InvokeEndpoint, the control plane, and what people want to know.

    POST /endpoints/{name}/invocations      runtime.py
    POST /  with X-Amz-Target               control_plane.py
    POST /  and others, for CloudWatch      cloudwatch/protocols.py
    GET  /status[?since=N][&disk=1]         what runs, and the events after number N
    GET  /metrics[?models=0]                Prometheus text
    GET  /ping                              200 while the server is up
    GET  /ui                                the page, web_pages.py
    GET  /ui/feed                           what there is and what changes, for the page

Not aiohttp's ``Application``: four routes need no router on the way of every invoke.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from endpoint.api import answers, bodies, runtime
from endpoint.api.backend import Backend
from endpoint.api.cloudwatch.api import CloudWatch
from endpoint.api.cloudwatch.protocols import wire_of
from endpoint.api.control_plane import ControlPlane
from endpoint.api.foreign import ForeignPages
from endpoint.api.signatures import Access, Signed
from endpoint.api.web_pages import WebPages
from endpoint.errors import (
    ApiError,
    InternalFailure,
    NoSuchRoute,
    ValidationError,
    ValidationException,
)
from endpoint.metrics.prometheus import CONTENT_TYPE
from endpoint.names import ENDPOINT, Names
from endpoint.settings import EndpointSettings
from endpoint.state import State

log = logging.getLogger("modelyard.endpoint")

# Headers of a request may be longer than the limits that they break, so that the answer says which.
_MAX_HEADER = 32 * 1024

# No request of the control plane that keeps to its limits is larger.
_MAX_OPERATION_BYTES = 1 << 20

_MAX_DIGITS = 18

# A body that is not wanted is read away for this long, see bodies.py.
_LINGER_SECONDS = 30.0

_WITHOUT_TARGET_MODEL = {
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "invocations-bidirectional-stream": "InvokeEndpointWithBidirectionalStream",
}


class ApiServer:
    """Serves until ``stop``. Raises SettingsError for an access file that cannot be used."""

    def __init__(
        self,
        settings: EndpointSettings,
        state: State,
        backend: Backend,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._names = Names(settings.region, settings.account)
        self._access = Access.load(settings, clock)
        self._foreign = ForeignPages(settings)
        self._web_pages = WebPages(self._access, self._names, backend)
        self._control_plane = ControlPlane(self._names, state, backend, clock)
        self._cloudwatch = CloudWatch(backend.measures, self._access, settings.account, clock)
        self._running: set[asyncio.Task[Any]] = set()
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError, such as for a port that is taken."""
        self._server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            logger=log,
            auto_decompress=False,
            lingering_time=_LINGER_SECONDS,
            max_field_size=_MAX_HEADER,
            max_line_size=_MAX_HEADER,
        )
        self._listener = await asyncio.get_running_loop().create_server(
            self._server, self._settings.host, self._settings.port, backlog=1024
        )
        self._control_plane.start()
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, timeout_seconds: float) -> None:
        """Take no more requests, and return when those that run are done or out of time."""
        if self._server is not None and self._listener is not None:
            self._listener.close()
            await asyncio.sleep(0)  # connections that were accepted become known
            self._server.pre_shutdown()
            await self._web_pages.stop()
            # It waits twice for as long: for the answer, then for the connection's task.
            await self._server.shutdown(timeout_seconds / 2)
            await asyncio.gather(*self._running, return_exceptions=True)  # they are cancelled
        await self._control_plane.stop()
        await self._cloudwatch.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._answer(request)
        finally:
            self._running.discard(task)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = str(uuid.uuid4())
        try:
            return await self._route(request, request_id)
        except ApiError as error:
            return _failure(request, error, request_id)
        except Exception:
            log.exception("Request %s: %s %s failed", request_id, request.method, request.path)
            fault = InternalFailure(
                f"The endpoint itself failed; its log has the details under request {request_id}."
            )
            return _failure(request, fault, request_id)

    async def _route(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        self._foreign.check(request.headers)
        path = request.rel_url.raw_path
        route = (request.method, path)
        wire = wire_of(request.method, path, request.headers)
        if wire is not None:
            return await self._cloudwatch.answer(request, wire, request_id)
        if route == ("POST", "/"):
            return await self._operate(request, request_id)
        if route == ("GET", "/ping"):
            return answers.result(b"", request_id)
        if route == ("GET", "/status"):
            return await self._status(request, request_id)
        if route == ("GET", "/metrics"):
            return await self._metrics(request, request_id)
        match path.split("/"):
            case ["", "endpoints", name, call] if request.method == "POST":
                return await self._runtime(request, request_id, unquote(name), call)
        if self._web_pages.takes(request):
            return await self._web_pages.answer(request)
        raise NoSuchRoute(
            f"{request.method} {path} is none of this endpoint's routes: POST "
            "/endpoints/{name}/invocations, POST / with X-Amz-Target, GET /ping, GET /status, "
            "GET /metrics, GET /ui."
        )

    async def _runtime(
        self, request: web.BaseRequest, request_id: str, endpoint: str, call: str
    ) -> web.Response:
        if call == "invocations":
            return await self._invoke(request, request_id, endpoint)
        if call in _WITHOUT_TARGET_MODEL:
            raise ValidationError(
                f"{_WITHOUT_TARGET_MODEL[call]} is not supported here: it has no TargetModel. Use "
                "InvokeEndpoint."
            )
        raise NoSuchRoute(f"There is no POST /endpoints/{{name}}/{call}.")

    async def _invoke(
        self, request: web.BaseRequest, request_id: str, endpoint: str
    ) -> web.Response:
        begun = perf_counter()
        claim = self._access.claim(_signed(request))
        body = await bodies.read(request, self._settings.max_body_bytes, ValidationError)
        key = await claim.proved(body)
        invocation = runtime.invocation_of(endpoint, request.headers, body, request_id)
        key.authorize(
            "InvokeEndpoint", self._names.arn(ENDPOINT, endpoint), invocation.target_model
        )
        measures = self._backend.measures
        try:
            reply = await self._backend.invoke(invocation)
        except BaseException as error:
            measures.answered(invocation, perf_counter() - begun, error)
            raise
        measures.answered(invocation, perf_counter() - begun)
        # InvokeEndpoint knows one status for success, whatever the container's was.
        headers = runtime.headers_of(reply, invocation.progress)
        return answers.result(reply.body, request_id, headers)

    async def _operate(self, request: web.BaseRequest, request_id: str) -> web.Response:
        claim = self._access.claim(_signed(request))
        body = await bodies.read(request, _MAX_OPERATION_BYTES, ValidationException)
        key = await claim.proved(body)
        operation = self._control_plane.operation_of(request.headers.get("X-Amz-Target", ""))
        key.authorize(operation, self._names.arn("*", "*"))
        content = await self._control_plane.do(operation, body)
        return answers.document(content, request_id, answers.AWS_JSON)

    async def _metrics(self, request: web.BaseRequest, request_id: str) -> web.Response:
        await self._may_look(request)
        models = _switch(request, "models", default="1")
        text = await self._backend.metrics(models=models)
        return answers.result(text, request_id, [("Content-Type", CONTENT_TYPE)])

    async def _may_look(self, request: web.BaseRequest) -> None:
        """Raises AccessDenied unless the request's key may see what runs."""
        key = await self._access.claim(_signed(request), passwords=True).proved(b"")
        key.authorize("GetStatus", self._names.arn("*", "*"))

    async def _status(self, request: web.BaseRequest, request_id: str) -> web.Response:
        await self._may_look(request)
        since = request.query.get("since", "0")
        if not since.isdecimal() or len(since) > _MAX_DIGITS:
            raise ValidationError(f"since={since!r} must be the number of an event.")
        disk = _switch(request, "disk", default="0")
        return answers.document(await self._backend.status(int(since), disk=disk), request_id)


def _switch(request: web.BaseRequest, name: str, *, default: str) -> bool:
    """A parameter that is 1 or 0. Raises ValidationError for any other value."""
    value = request.query.get(name, default)
    if value not in ("0", "1"):
        raise ValidationError(f"{name}={value!r} must be 1, or 0.")
    return value == "1"


def _failure(request: web.BaseRequest, error: ApiError, request_id: str) -> web.Response:
    """In the words of the API that was asked."""
    wire = wire_of(request.method, request.rel_url.raw_path, request.headers)
    if wire is not None:
        return wire.failure(error, request_id)
    content_type = answers.AWS_JSON if "X-Amz-Target" in request.headers else answers.JSON
    return answers.failure(error, request_id, content_type)


def _signed(request: web.BaseRequest) -> Signed:
    return Signed(request.method, request.raw_path, request.headers)
