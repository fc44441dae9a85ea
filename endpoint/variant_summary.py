"""A variant for people: what those that run it tell the API that describes it."""

from __future__ import annotations

from dataclasses import dataclass

from endpoint.specs import VariantSpec


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """A variant as DescribeEndpoint shows it. Times are seconds since 1970."""

    spec: VariantSpec
    current_weight: float
    desired_weight: float
    current_instance_count: int
    desired_instance_count: int
    status: str  # Creating, Updating, Deleting; "" when there is nothing to say
    status_since: float
