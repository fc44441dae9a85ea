"""What users have asked for, as plain values: containers, variants, endpoints.

Made of the requests that the control plane stored, which have been checked there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

GIB = 1 << 30


class Mode(Enum):
    """How a container serves: one model, or those under a prefix, by name."""

    SINGLE = "SingleModel"
    MULTI = "MultiModel"


class Routing(Enum):
    """How a variant spreads requests over those of its instances that could all take them."""

    LEAST_OUTSTANDING = "LEAST_OUTSTANDING_REQUESTS"
    RANDOM = "RANDOM"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A ContainerDefinition: image, and where the models are.

    ``model_data_url`` is a prefix in multi-model mode, one archive else; "" for none.
    """

    image: str
    mode: Mode
    model_data_url: str
    environment: Mapping[str, str]
    hostname: str = ""
    keeps_models: bool = True  # ModelCacheSetting is Enabled

    @property
    def shown(self) -> str:
        """What messages call the container."""
        return self.hostname or "primary"


# Of a container of which nothing is known any more but that it may run.
NO_CONTAINER = ContainerSpec(image="", mode=Mode.MULTI, model_data_url="", environment={})


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A ProductionVariant and the container of its model."""

    name: str
    model_name: str
    container: ContainerSpec
    instance_type: str
    instance_count: int
    weight: float
    volume_bytes: int | None
    start_timeout_seconds: float | None
    load_timeout_seconds: float | None
    routing: Routing


def container_of(model: Mapping[str, Any]) -> ContainerSpec:
    """The one container of a CreateModel request."""
    definition = model.get("PrimaryContainer") or model["Containers"][0]
    cache = definition.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
    return ContainerSpec(
        image=definition.get("Image", ""),
        mode=Mode(definition.get("Mode", Mode.SINGLE.value)),
        model_data_url=definition.get("ModelDataUrl", ""),
        environment=definition.get("Environment", {}),
        hostname=definition.get("ContainerHostname", ""),
        keeps_models=cache == "Enabled",
    )


def variant_of(variant: Mapping[str, Any], container: ContainerSpec) -> VariantSpec:
    """One of the ProductionVariants of a CreateEndpointConfig request."""
    volume = variant.get("VolumeSizeInGB")
    routing = variant.get("RoutingConfig", {}).get("RoutingStrategy")
    return VariantSpec(
        name=variant["VariantName"],
        model_name=variant["ModelName"],
        container=container,
        instance_type=variant.get("InstanceType", ""),
        instance_count=variant.get("InitialInstanceCount", 1),
        weight=variant.get("InitialVariantWeight", 1.0),
        volume_bytes=None if volume is None else volume * GIB,
        start_timeout_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        load_timeout_seconds=variant.get("ModelDataDownloadTimeoutInSeconds"),
        routing=Routing(routing) if routing else Routing.LEAST_OUTSTANDING,
    )


def variants_of(snapshot: Mapping[str, Any]) -> list[VariantSpec]:
    """The variants of a configuration, from ``{"config": request, "models": {name: request}}``."""
    models = snapshot["models"]
    return [
        variant_of(variant, container_of(models[variant["ModelName"]]))
        for variant in snapshot["config"]["ProductionVariants"]
    ]
