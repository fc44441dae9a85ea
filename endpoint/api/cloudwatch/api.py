"""Requests to CloudWatch, from HTTP to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from endpoint.api import bodies
from endpoint.api.cloudwatch.metric_data import MetricData
from endpoint.api.cloudwatch.metric_list import MetricList
from endpoint.api.cloudwatch.metric_statistics import MetricStatistics, check_needed
from endpoint.api.cloudwatch.protocols import Wire
from endpoint.api.service_model import ModelToCome, ServiceModel
from endpoint.api.signatures import MONITORING, Access, Signed
from endpoint.errors import ApiError, InvalidParameterValue, UnknownOperation, ValidationError
from endpoint.metrics.measures import Measures

# No request that keeps to its limits is larger.
_MAX_BYTES = 1 << 20

Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

# The actions of access files, as in IAM policies.
_ACTIONS = "cloudwatch"


class CloudWatch:
    """Checks requests and does them, until ``stop``. ``clock`` is seconds since 1970."""

    def __init__(
        self, measures: Measures, access: Access, account: str, clock: Callable[[], float]
    ) -> None:
        self._access = access
        self._model = ModelToCome("cloudwatch")
        # With each what the platform says of a value that breaks a limit.
        self._operations: dict[str, tuple[Operation, type[ApiError]]] = {
            "GetMetricData": (MetricData(measures, account).get, ValidationError),
            "GetMetricStatistics": (MetricStatistics(measures).get, InvalidParameterValue),
            "ListMetrics": (MetricList(measures, account, clock).list, InvalidParameterValue),
        }

    async def stop(self) -> None:
        """Let no task outlive the server."""
        await self._model.stop()

    async def answer(self, request: web.BaseRequest, wire: Wire, request_id: str) -> web.Response:
        """The answer, in the request's own protocol. Raises ApiError."""
        signed = Signed(request.method, request.raw_path, request.headers)
        claim = self._access.claim(signed, MONITORING)
        body = await bodies.read(request, _MAX_BYTES, ValidationError)
        key = await claim.proved(body)
        operation = wire.operation(body)
        key.authorize(operation, "*", prefix=_ACTIONS)
        model = await self._model.get()
        if operation not in self._operations:
            raise UnknownOperation(self._refusal(operation, model))
        shapes = model.operation(operation)
        members = wire.members(body, shapes)
        if operation == "GetMetricStatistics":
            check_needed(members)
        do, refusal = self._operations[operation]
        content = await do(model.checked(operation, members, refusal))
        # It may hold 100,800 values, for which everybody else would wait.
        return await asyncio.to_thread(wire.result, content, shapes, request_id)

    def _refusal(self, operation: str, model: ServiceModel) -> str:
        there = " and ".join((", ".join([*self._operations][:-1]), [*self._operations][-1]))
        if operation in model.operations:
            return f"{operation} is not supported here. Of CloudWatch there are {there}."
        return f"There is no operation '{operation}'. Of CloudWatch there are {there}."
