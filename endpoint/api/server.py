"""The APIs on one port: InvokeEndpoint, the control plane, and what people want to know.

    POST /endpoints/{name}/invocations      runtime.py
    POST /  with X-Amz-Target               control_plane.py
    GET  /status[?since=N][&disk=1]         what runs, and the events after number N
    GET  /ping                              200 while the server is up

Not aiohttp's ``Application``: four routes need no router on the way of every invoke.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from endpoint.api import answers, bodies, runtime
from endpoint.api.backend import Backend
from endpoint.api.control_plane import ControlPlane
from endpoint.api.signatures import Access, Signed
from endpoint.errors import (
    ApiError,
    InternalFailure,
    NoSuchRoute,
    ValidationError,
    ValidationException,
)
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
        self._control_plane = ControlPlane(self._names, state, backend, clock)
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
            # It waits twice for as long: for the answer, then for the connection's task.
            await self._server.shutdown(timeout_seconds / 2)
            await asyncio.gather(*self._running, return_exceptions=True)  # they are cancelled
        await self._control_plane.stop()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._answer(request)
        finally:
            self._running.discard(task)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        request_id = str(uuid.uuid4())
        content_type = answers.AWS_JSON if "X-Amz-Target" in request.headers else answers.JSON
        try:
            return await self._route(request, request_id)
        except ApiError as error:
            return answers.failure(error, request_id, content_type)
        except Exception:
            log.exception("Request %s: %s %s failed", request_id, request.method, request.path)
            fault = InternalFailure(
                f"The endpoint itself failed; its log has the details under request {request_id}."
            )
            return answers.failure(fault, request_id, content_type)

    async def _route(self, request: web.BaseRequest, request_id: str) -> web.Response:
        path = request.rel_url.raw_path
        route = (request.method, path)
        if route == ("POST", "/"):
            return await self._operate(request, request_id)
        if route == ("GET", "/ping"):
            return answers.result(b"", request_id)
        if route == ("GET", "/status"):
            return await self._status(request, request_id)
        match path.split("/"):
            case ["", "endpoints", name, call] if request.method == "POST":
                return await self._runtime(request, request_id, unquote(name), call)
        raise NoSuchRoute(
            f"{request.method} {path} is none of this endpoint's routes: POST "
            "/endpoints/{name}/invocations, POST / with X-Amz-Target, GET /ping, GET /status."
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
        claim = self._access.claim(_signed(request))
        body = await bodies.read(request, self._settings.max_body_bytes, ValidationError)
        key = await claim.proved(body)
        invocation = runtime.invocation_of(endpoint, request.headers, body, request_id)
        key.authorize(
            "InvokeEndpoint", self._names.arn(ENDPOINT, endpoint), invocation.target_model
        )
        reply = await self._backend.invoke(invocation)
        # InvokeEndpoint knows one status for success, whatever the container's was.
        return answers.result(reply.body, request_id, runtime.headers_of(reply))

    async def _operate(self, request: web.BaseRequest, request_id: str) -> web.Response:
        claim = self._access.claim(_signed(request))
        body = await bodies.read(request, _MAX_OPERATION_BYTES, ValidationException)
        key = await claim.proved(body)
        operation = self._control_plane.operation_of(request.headers.get("X-Amz-Target", ""))
        key.authorize(operation, self._names.arn("*", "*"))
        content = await self._control_plane.do(operation, body)
        return answers.document(content, request_id, answers.AWS_JSON)

    async def _status(self, request: web.BaseRequest, request_id: str) -> web.Response:
        key = await self._access.claim(_signed(request)).proved(b"")
        key.authorize("GetStatus", self._names.arn("*", "*"))
        since = request.query.get("since", "0")
        if not since.isdecimal() or len(since) > _MAX_DIGITS:
            raise ValidationError(f"since={since!r} must be the number of an event.")
        disk = request.query.get("disk", "0")
        if disk not in ("0", "1"):
            raise ValidationError(f"disk={disk!r} must be 1, or 0.")
        return answers.document(
            await self._backend.status(int(since), disk=disk == "1"), request_id
        )


def _signed(request: web.BaseRequest) -> Signed:
    return Signed(request.method, request.raw_path, request.headers)
