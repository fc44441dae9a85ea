"""What the endpoint remembers across restarts, as it is stored."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class EndpointStatus(StrEnum):
    """The platform's words for the state of an endpoint."""

    CREATING = "Creating"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    IN_SERVICE = "InService"
    DELETING = "Deleting"
    FAILED = "Failed"


class Definition(msgspec.Struct, frozen=True):
    """A model or an endpoint configuration: the request that made it, checked, and when."""

    name: str
    request: dict[str, Any]
    created: float  # seconds since 1970


class VariantState(msgspec.Struct, frozen=True):
    """What UpdateEndpointWeightsAndCapacities may change of a variant."""

    name: str
    weight: float
    instance_count: int


class EndpointRecord(msgspec.Struct, frozen=True):
    """An endpoint: its configuration, its status, and what was asked of its variants since.

    ``generation`` counts the fleets that it has had; instances of another one are to go.
    """

    name: str
    config_name: str
    status: EndpointStatus
    created: float
    modified: float
    variants: tuple[VariantState, ...]
    generation: int = 0
    failure: str = ""
    next_config_name: str = ""  # while it is updated
    # Configuration and models as they were when they were asked for: both may be deleted since.
    snapshot: dict[str, Any] = {}
    next_snapshot: dict[str, Any] = {}
    next_variants: tuple[VariantState, ...] = ()
    # What only describing it needs: Tags, DeploymentConfig.
    request: dict[str, Any] = {}


class InstanceRecord(msgspec.Struct, frozen=True):
    """A running container, and what its fleet needs to find it again."""

    id: str
    endpoint: str
    variant: str
    generation: int
    slot: int
    handle: dict[str, str | int]


def instance_id(endpoint: str, variant: str, generation: int, slot: int) -> str:
    """Of an instance: its key, and the name of its directory. Names of endpoints have no dots."""
    return f"{endpoint}.{variant}.{generation}.{slot}"


def expected_instances(record: EndpointRecord) -> set[str]:
    """The ids of those that may go on after a restart, also those of a change that goes on."""
    if record.status in (EndpointStatus.FAILED, EndpointStatus.DELETING):
        return set()
    following = record.generation + bool(record.next_config_name)
    states = [(record.generation, one) for one in record.variants]
    states += [(following, one) for one in record.next_variants]
    return {
        instance_id(record.name, one.name, generation, slot)
        for generation, one in states
        for slot in range(one.instance_count)
    }
