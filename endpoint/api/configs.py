"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs, DeleteEndpointConfig."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from endpoint.api import descriptions, listing
from endpoint.api.instance_types import serves_many_models
from endpoint.api.resources import Resources
from endpoint.errors import ValidationException
from endpoint.records import Definition
from endpoint.specs import Mode, Routing, container_of

_SORTABLE: listing.Sortable[Definition] = listing.Sortable(
    name=attrgetter("name"), created=attrgetter("created")
)
_UNSUPPORTED = {
    "AsyncInferenceConfig": "InvokeEndpointAsync has no TargetModel",
    "ShadowProductionVariants": "there are no shadow variants",
    "ExplainerConfig": "there are no explainers",
}
_UNSUPPORTED_OF_VARIANT = {
    "ServerlessConfig": "give InstanceType and InitialInstanceCount instead",
    "InstancePools": "give InstanceType and InitialInstanceCount instead",
    "AcceleratorType": "the platform has none any more",
}
_NEEDED = {
    "ModelName": "endpoints without a model are for inference components, which are not supported",
    "InstanceType": "such as ml.m5.xlarge",
    "InitialInstanceCount": "1 or more",
}


class Configs:
    """The operations. All raise ValidationException for what they cannot do."""

    def __init__(
        self,
        configs: Resources[Definition],
        models: Resources[Definition],
        clock: Callable[[], float],
    ) -> None:
        self._configs = configs
        self._models = models
        self._clock = clock

    async def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store the configuration; its models must be there."""
        name = request["EndpointConfigName"]
        self._configs.refuse_existing(name)
        _check_supported(request, _UNSUPPORTED, "")
        self._check_variants(request["ProductionVariants"])
        self._configs.table.put(Definition(name=name, request=request, created=self._clock()))
        return {"EndpointConfigArn": self._configs.arn(name)}

    async def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request that made it."""
        config = self._configs.get(request["EndpointConfigName"])
        shown = {name: value for name, value in config.request.items() if name != "Tags"}
        shown["ProductionVariants"] = [
            {"InitialVariantWeight": 1.0, **variant} for variant in shown["ProductionVariants"]
        ]
        return {
            "EnableNetworkIsolation": False,
            **descriptions.without_empty(shown),
            "EndpointConfigArn": self._configs.arn(config.name),
            "CreationTime": descriptions.time(config.created),
        }

    async def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of them."""
        found, token = listing.page(self._configs.table.all(), request, _SORTABLE)
        return {
            "EndpointConfigs": [
                {
                    "EndpointConfigName": config.name,
                    "EndpointConfigArn": self._configs.arn(config.name),
                    "CreationTime": descriptions.time(config.created),
                }
                for config in found
            ],
            **token,
        }

    async def delete(self, request: dict[str, Any]) -> None:
        """Forget it; endpoints that were made of it stay."""
        self._configs.remove(request["EndpointConfigName"])

    def _check_variants(self, variants: Sequence[Mapping[str, Any]]) -> None:
        names = [variant["VariantName"] for variant in variants]
        for name in names:
            if names.count(name) > 1:
                raise ValidationException(f"Variant names must be unique: '{name}' is there twice.")
        for variant in variants:
            _check_variant(variant)
            self._check_model(variant)
        if not any(variant.get("InitialVariantWeight", 1.0) > 0 for variant in variants):
            raise ValidationException("At least one variant must have a weight above 0.")

    def _check_model(self, variant: Mapping[str, Any]) -> None:
        model = self._models.get(variant["ModelName"])
        instance_type = variant["InstanceType"]
        many = container_of(model.request).mode is Mode.MULTI
        if many and not serves_many_models(instance_type):
            raise ValidationException(
                f"MultiModel mode is not supported for instance type {instance_type}."
            )


def _check_variant(variant: Mapping[str, Any]) -> None:
    where = f" (variant '{variant['VariantName']}')"
    _check_supported(variant, _UNSUPPORTED_OF_VARIANT, where)
    for member, text in _NEEDED.items():
        if member not in variant:
            raise ValidationException(f"{member} is needed{where}: {text}.")
    strategy = variant.get("RoutingConfig", {}).get("RoutingStrategy")
    if strategy not in (None, *(routing.value for routing in Routing)):
        raise ValidationException(f"RoutingStrategy {strategy} is not supported here{where}.")


def _check_supported(
    members: Mapping[str, Any], unsupported: Mapping[str, str], where: str
) -> None:
    for member, text in unsupported.items():
        if members.get(member):
            raise ValidationException(f"{member} is not supported here{where}: {text}.")
