"""The control plane: ``POST /`` with ``X-Amz-Target: SageMaker.<Operation>``, AWS JSON 1.1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from endpoint.api import bodies
from endpoint.api.backend import Backend
from endpoint.api.configs import Configs
from endpoint.api.endpoints import Endpoints
from endpoint.api.models import Models
from endpoint.api.resources import Resources
from endpoint.api.service_model import ModelToCome
from endpoint.api.tags import Tags
from endpoint.errors import UnknownOperation
from endpoint.names import CONFIG, ENDPOINT, MODEL, Names
from endpoint.state import State

_TARGET_PREFIX = "SageMaker."

Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]


class ControlPlane:
    """Checks requests and does them. Between ``start`` and ``stop``."""

    def __init__(
        self, names: Names, state: State, backend: Backend, clock: Callable[[], float]
    ) -> None:
        models = Resources(state.models, MODEL, names)
        configs = Resources(state.configs, CONFIG, names)
        endpoints = Resources(state.endpoints, ENDPOINT, names)
        self._operations = _operations_of(
            Models(models, backend, clock),
            Configs(configs, models, clock),
            Endpoints(endpoints, configs, models, backend, clock),
            Tags(names, models, configs, endpoints),
        )
        self._model = ModelToCome("sagemaker")

    def start(self) -> None:
        """Read the service's model, beside everything else: only the first request may wait."""
        self._model.start()

    async def stop(self) -> None:
        """Let no task outlive the server."""
        await self._model.stop()

    def operation_of(self, target: str) -> str:
        """The operation that ``X-Amz-Target`` names. Raises UnknownOperation."""
        if not target.startswith(_TARGET_PREFIX):
            raise UnknownOperation(
                f"X-Amz-Target '{target}' names no operation: it must be SageMaker.<Operation>."
            )
        return target.removeprefix(_TARGET_PREFIX)

    async def do(self, operation: str, body: bytes) -> dict[str, Any] | None:
        """Do an operation; None: it has no answer. Raises ApiError."""
        model = await self._model.get()
        do = self._operations.get(operation)
        if do is None:
            known = operation in model.operations
            raise UnknownOperation(
                f"{operation} is not supported here: this endpoint serves models and nothing else."
                if known
                else f"There is no operation '{operation}'."
            )
        return await do(model.checked(operation, bodies.decoded(body)))


def _operations_of(
    models: Models, configs: Configs, endpoints: Endpoints, tags: Tags
) -> dict[str, Operation]:
    return {
        "CreateModel": models.create,
        "DescribeModel": models.describe,
        "ListModels": models.list,
        "DeleteModel": models.delete,
        "CreateEndpointConfig": configs.create,
        "DescribeEndpointConfig": configs.describe,
        "ListEndpointConfigs": configs.list,
        "DeleteEndpointConfig": configs.delete,
        "CreateEndpoint": endpoints.create,
        "DescribeEndpoint": endpoints.describe,
        "ListEndpoints": endpoints.list,
        "UpdateEndpoint": endpoints.update,
        "UpdateEndpointWeightsAndCapacities": endpoints.set_weights_and_capacities,
        "DeleteEndpoint": endpoints.delete,
        "AddTags": tags.add,
        "ListTags": tags.list,
        "DeleteTags": tags.delete,
    }
