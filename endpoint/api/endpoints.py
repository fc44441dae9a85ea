"""CreateEndpoint, DescribeEndpoint, ListEndpoints, UpdateEndpoint,
UpdateEndpointWeightsAndCapacities, DeleteEndpoint.

    (none) --Create--> Creating --> InService --Delete--> Deleting --> (none)
                          |          |   ^ ^
                          v   Update v   | |
                       Failed     Updating |
                                     v     |
                                   RollingBack

Only InService can be changed, only InService and Failed can be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from endpoint.api import descriptions, listing
from endpoint.api.backend import Backend
from endpoint.api.resources import Resources
from endpoint.errors import ValidationException
from endpoint.records import Definition, EndpointRecord, EndpointStatus, VariantState
from endpoint.variant_summary import VariantSummary

_SORTABLE: listing.Sortable[EndpointRecord] = listing.Sortable(
    name=attrgetter("name"),
    created=attrgetter("created"),
    modified=attrgetter("modified"),
    status=attrgetter("status"),
)
_MAX_FAILURE = 1024


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The operations. All raise ValidationException for what they cannot do."""

    endpoints: Resources[EndpointRecord]
    configs: Resources[Definition]
    models: Resources[Definition]
    backend: Backend
    clock: Callable[[], float]

    async def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start it; its status tells when it serves. May raise ResourceLimitExceeded."""
        name = request["EndpointName"]
        self._refuse_existing(name)
        variants = self._variants_of(request["EndpointConfigName"])
        now = self.clock()
        record = EndpointRecord(
            name=name,
            config_name=request["EndpointConfigName"],
            status=EndpointStatus.CREATING,
            created=now,
            modified=now,
            variants=variants,
            request={
                member: request[member]
                for member in ("Tags", "DeploymentConfig")
                if member in request
            },
        )
        self.backend.create(record)
        return {"EndpointArn": self.endpoints.arn(name)}

    async def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """How it is now."""
        record = self.endpoints.get(request["EndpointName"])
        variants = self.backend.variants(record.name)
        shown = {
            "EndpointConfigName": record.config_name,
            "ProductionVariants": [_described(variant, record) for variant in variants],
            "DataCaptureConfig": _data_capture(record),
            "FailureReason": record.failure[:_MAX_FAILURE] or None,
            "LastDeploymentConfig": record.request.get("DeploymentConfig"),
            "PendingDeploymentSummary": _pending(record),
        }
        return {
            **descriptions.without_empty({k: v for k, v in shown.items() if v is not None}),
            **self._summary(record),
        }

    async def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """A page of them."""
        found, token = listing.page(self.endpoints.table.all(), request, _SORTABLE)
        return {"Endpoints": [self._summary(record) for record in found], **token}

    async def update(self, request: dict[str, Any]) -> dict[str, Any]:
        """Bring it to another configuration. May raise ResourceLimitExceeded."""
        record = self._changeable(request["EndpointName"])
        config_name = request["EndpointConfigName"]
        variants = self._variants_of(config_name)
        if request.get("RetainAllVariantProperties"):
            excluded = {
                item["VariantPropertyType"]
                for item in request.get("ExcludeRetainedVariantProperties", [])
            }
            variants = _retained(variants, record.variants, excluded)
        self.backend.update(record.name, config_name, variants)
        self._keep_deployment_config(request)
        return {"EndpointArn": self.endpoints.arn(record.name)}

    async def set_weights_and_capacities(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change weights and instance counts. May raise ResourceLimitExceeded."""
        record = self._changeable(request["EndpointName"])
        variants = {variant.name: variant for variant in record.variants}
        for desired in request["DesiredWeightsAndCapacities"]:
            name = desired["VariantName"]
            if name not in variants:
                arn = self.endpoints.arn(record.name)
                raise ValidationException(f'Could not find variant "{name}" of endpoint "{arn}".')
            variants[name] = _changed(variants[name], desired)
        if not any(variant.weight > 0 for variant in variants.values()):
            raise ValidationException("At least one variant must have a weight above 0.")
        self.backend.set_capacities(record.name, list(variants.values()))
        return {"EndpointArn": self.endpoints.arn(record.name)}

    async def delete(self, request: dict[str, Any]) -> None:
        """Stop it; the record is gone when its instances are."""
        record = self.endpoints.get(request["EndpointName"])
        if record.status not in (EndpointStatus.IN_SERVICE, EndpointStatus.FAILED):
            raise self._in_progress(record)
        self.backend.delete(record.name)

    def _variants_of(self, config_name: str) -> tuple[VariantState, ...]:
        """What a configuration asks for; its models must still be there."""
        variants = self.configs.get(config_name).request["ProductionVariants"]
        for variant in variants:
            self.models.get(variant["ModelName"])
        return tuple(
            VariantState(
                name=variant["VariantName"],
                weight=variant.get("InitialVariantWeight", 1.0),
                instance_count=variant["InitialInstanceCount"],
            )
            for variant in variants
        )

    def _refuse_existing(self, name: str) -> None:
        """Upper and lower case make no difference here, though invokes must keep to them."""
        for record in self.endpoints.table.all():
            if record.name.lower() == name.lower():
                self.endpoints.refuse_existing(record.name)

    def _changeable(self, name: str) -> EndpointRecord:
        record = self.endpoints.get(name)
        if record.status == EndpointStatus.FAILED:
            raise ValidationException(
                f'Cannot update endpoint "{self.endpoints.arn(name)}": its status is Failed, so it '
                "can only be deleted."
            )
        if record.status != EndpointStatus.IN_SERVICE:
            raise self._in_progress(record)
        return record

    def _in_progress(self, record: EndpointRecord) -> ValidationException:
        arn = self.endpoints.arn(record.name)
        return ValidationException(f'Cannot update in-progress endpoint "{arn}".')

    def _keep_deployment_config(self, request: Mapping[str, Any]) -> None:
        record = self.endpoints.get(request["EndpointName"])
        kept = dict(record.request)
        if "DeploymentConfig" in request:
            kept["DeploymentConfig"] = request["DeploymentConfig"]
        elif not request.get("RetainDeploymentConfig"):
            kept.pop("DeploymentConfig", None)
        if kept != record.request:
            self.endpoints.change(record.name, request=kept)

    def _summary(self, record: EndpointRecord) -> dict[str, Any]:
        return {
            "EndpointName": record.name,
            "EndpointArn": self.endpoints.arn(record.name),
            "EndpointStatus": record.status,
            "CreationTime": descriptions.time(record.created),
            "LastModifiedTime": descriptions.time(record.modified),
        }


def _retained(
    new: tuple[VariantState, ...], old: tuple[VariantState, ...], excluded: set[str]
) -> tuple[VariantState, ...]:
    """The new variants with what was asked of old ones of their names, but for what is excluded."""
    before = {variant.name: variant for variant in old}
    return tuple(
        VariantState(
            name=variant.name,
            weight=(variant if "DesiredWeight" in excluded else kept).weight,
            instance_count=(variant if "DesiredInstanceCount" in excluded else kept).instance_count,
        )
        for variant in new
        for kept in (before.get(variant.name, variant),)
    )


def _changed(variant: VariantState, desired: Mapping[str, Any]) -> VariantState:
    if desired.get("ServerlessUpdateConfig"):
        raise ValidationException("ServerlessUpdateConfig is not supported here.")
    count = desired.get("DesiredInstanceCount", variant.instance_count)
    if count < 1:
        raise ValidationException(
            f"DesiredInstanceCount of variant '{variant.name}' must be 1 or more: only endpoints "
            "of inference components can scale to zero."
        )
    return VariantState(
        name=variant.name,
        weight=desired.get("DesiredWeight", variant.weight),
        instance_count=count,
    )


def _described(variant: VariantSummary, record: EndpointRecord) -> dict[str, Any]:
    image = variant.spec.container.image
    status = {"Status": variant.status, "StartTime": descriptions.time(variant.status_since)}
    return {
        "VariantName": variant.spec.name,
        "DeployedImages": [
            {
                "SpecifiedImage": image,
                "ResolvedImage": image,
                "ResolutionTime": descriptions.time(record.created),
            }
        ],
        "CurrentWeight": variant.current_weight,
        "DesiredWeight": variant.desired_weight,
        "CurrentInstanceCount": variant.current_instance_count,
        "DesiredInstanceCount": variant.desired_instance_count,
        "VariantStatus": [status] if variant.status else [],
        "RoutingConfig": {"RoutingStrategy": variant.spec.routing.value},
    }


def _data_capture(record: EndpointRecord) -> dict[str, Any] | None:
    """Of what was asked for; nothing is captured here."""
    asked = record.snapshot.get("config", {}).get("DataCaptureConfig")
    if not asked:
        return None
    return {
        "EnableCapture": asked.get("EnableCapture", False),
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": asked["InitialSamplingPercentage"],
        "DestinationS3Uri": asked["DestinationS3Uri"],
        "KmsKeyId": asked.get("KmsKeyId", ""),
    }


def _pending(record: EndpointRecord) -> dict[str, Any] | None:
    if not record.next_config_name:
        return None
    return {
        "EndpointConfigName": record.next_config_name,
        "StartTime": descriptions.time(record.modified),
    }
