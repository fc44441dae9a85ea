"""CreateModel, DescribeModel, ListModels, DeleteModel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from endpoint.api import descriptions, listing
from endpoint.api.backend import Backend
from endpoint.api.resources import Resources
from endpoint.errors import ValidationException
from endpoint.records import Definition
from endpoint.specs import Mode, container_of

_SORTABLE: listing.Sortable[Definition] = listing.Sortable(
    name=attrgetter("name"), created=attrgetter("created")
)
_SCHEMES = ("s3://", "file:///")

# Members of a ContainerDefinition that change what is served, and that this endpoint cannot do.
_UNSUPPORTED = {
    "ModelPackageName": "give Image and ModelDataUrl instead",
    "InferenceSpecificationName": "give Image and ModelDataUrl instead",
    "ModelDataSource": "give ModelDataUrl instead; multi-model endpoints take nothing else anyway",
    "AdditionalModelDataSources": "put what the model needs into its archive",
}


class Models:
    """The operations. All raise ValidationException for what they cannot do."""

    def __init__(
        self, models: Resources[Definition], backend: Backend, clock: Callable[[], float]
    ) -> None:
        self._models = models
        self._backend = backend
        self._clock = clock

    async def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store the model, if its container can be had."""
        name = request["ModelName"]
        self._models.refuse_existing(name)
        _check(request)
        await self._backend.check_container(container_of(request))
        self._models.refuse_existing(name)  # it may have been created meanwhile
        self._models.table.put(Definition(name=name, request=request, created=self._clock()))
        return {"ModelArn": self._models.arn(name)}

    async def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request that made it."""
        model = self._models.get(request["ModelName"])
        shown = {name: value for name, value in model.request.items() if name != "Tags"}
        if "PrimaryContainer" in shown:
            shown["PrimaryContainer"] = _described(shown["PrimaryContainer"])
        else:
            shown["Containers"] = [_described(container) for container in shown["Containers"]]
        shown = descriptions.without_empty(shown)
        return {
            "EnableNetworkIsolation": False,
            **shown,
            "ModelArn": self._models.arn(model.name),
            "CreationTime": descriptions.time(model.created),
        }

    async def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of them."""
        found, token = listing.page(self._models.table.all(), request, _SORTABLE)
        return {
            "Models": [
                {
                    "ModelName": model.name,
                    "ModelArn": self._models.arn(model.name),
                    "CreationTime": descriptions.time(model.created),
                }
                for model in found
            ],
            **token,
        }

    async def delete(self, request: dict[str, Any]) -> None:
        """Forget it; the archives stay, and so do endpoints that run it."""
        self._models.remove(request["ModelName"])


def _described(container: Mapping[str, Any]) -> dict[str, Any]:
    return {"Mode": Mode.SINGLE.value, **container}


def _check(request: Mapping[str, Any]) -> None:
    """Raise ValidationException unless there is one container that can be served."""
    containers = request.get("Containers", [])
    if ("PrimaryContainer" in request) == bool(containers):
        raise ValidationException("Give either PrimaryContainer or Containers.")
    if len(containers) > 1:
        raise ValidationException(
            "Inference pipelines are not supported here: Containers may hold one container."
        )
    if request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct":
        raise ValidationException(
            "InferenceExecutionConfig with Mode Direct is not supported here: a model has one "
            "container."
        )
    _check_container(request.get("PrimaryContainer") or containers[0])


def _check_container(container: Mapping[str, Any]) -> None:
    for member, instead in _UNSUPPORTED.items():
        if container.get(member):
            raise ValidationException(f"{member} is not supported here: {instead}.")
    if not container.get("Image"):
        raise ValidationException("The container needs an Image.")
    url = container.get("ModelDataUrl", "")
    if not url and container.get("Mode") == Mode.MULTI.value:
        raise ValidationException(
            "A container with Mode MultiModel needs ModelDataUrl: the prefix below which the "
            "models' archives lie, such as s3://bucket/models/."
        )
    if url and not url.startswith(_SCHEMES):
        raise ValidationException(
            f"ModelDataUrl '{url}' is not supported here: it must begin with s3:// or file:///."
        )
