"""What the APIs ask of the endpoints that run: ``endpoint.platform`` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from endpoint.invocation import Invocation, Reply
from endpoint.metrics.measures import Measures
from endpoint.records import EndpointRecord, VariantState
from endpoint.specs import ContainerSpec
from endpoint.variant_summary import VariantSummary


class Backend(Protocol):
    """Endpoints that run. What changes them returns at once; the record's status tells the rest.

    ``measures`` is told of each request when its answer is known.
    """

    measures: Measures

    async def check_container(self, container: ContainerSpec) -> None:
        """Raise ValidationException unless image and models could be served (CreateModel)."""

    def create(self, record: EndpointRecord) -> None:
        """Store the record, which is Creating, and start its instances.

        Raises ResourceLimitExceeded when there cannot be so many.
        """

    def update(self, name: str, config_name: str, variants: Sequence[VariantState]) -> None:
        """Bring up the variants of another configuration, then let the old ones go.

        Raises ResourceLimitExceeded.
        """

    def set_capacities(self, name: str, variants: Sequence[VariantState]) -> None:
        """Change weights and instance counts; all variants of the endpoint are given.

        Raises ResourceLimitExceeded.
        """

    def delete(self, name: str) -> None:
        """Stop its instances, then remove the record."""

    def variants(self, name: str) -> list[VariantSummary]:
        """The variants as they are now; [] before its instances are there."""

    async def invoke(self, invocation: Invocation) -> Reply:
        """Raises ApiError. Its endpoint, variant and model need not be there."""

    async def metrics(self, *, models: bool) -> bytes:
        """All metrics as Prometheus text, with or without those of each model."""

    async def status(self, since: int, *, disk: bool) -> dict[str, Any]:
        """Everything that runs, for people: endpoints, instances, models, events after a number.

        Of models that are only on a disk there is a count, or with ``disk`` each of them.
        """

    async def measure(self) -> None:
        """Have the memory of instances be that of now, if that does not take long."""

    async def seen(self, since: int, *, disk: bool = False) -> dict[str, Any]:
        """What ``status`` tells, with the memory that was measured last."""
