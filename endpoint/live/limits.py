"""How many instances there may be, of all endpoints together."""

from __future__ import annotations

from collections.abc import Iterable

from endpoint.errors import ResourceLimitExceeded
from endpoint.records import EndpointRecord, EndpointStatus, VariantState


def check_instances(records: Iterable[EndpointRecord], more: int, most: int) -> None:
    """Raise ResourceLimitExceeded if ``more`` than what the endpoints have is over ``most``.

    Having fewer is always allowed: the limit may have been another when they were made.
    """
    used = sum(map(_instances_of, records))
    if more > 0 and used + more > most:
        raise ResourceLimitExceeded(
            f"The limit of instances of all endpoints together is {most}: {used} are in use, and "
            f"{more} more are asked for. Delete endpoints, or start the endpoint with another "
            "max_instances."
        )


def total(variants: Iterable[VariantState]) -> int:
    """The instances of these variants."""
    return sum(variant.instance_count for variant in variants)


def _instances_of(record: EndpointRecord) -> int:
    """At most, while what was asked of it last is done."""
    if record.status == EndpointStatus.FAILED:
        return 0
    before, after = total(record.variants), total(record.next_variants)
    # Variants of an update run beside the old ones; a change of capacities is of the same ones.
    return before + after if record.next_config_name else max(before, after)
