"""Single figures out of what GET /metrics says."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.memory import steady
from benchmarks.servers import Server

MIB = 1 << 20


def figures(server: Server) -> dict[str, float]:
    """Every sample by its name; those that differ in labels only are added up."""
    found: dict[str, float] = {}
    for sample in _all(server):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def samples(server: Server, name: str) -> list[float]:
    """The values of all samples of this name."""
    return [sample.value for sample in _all(server) if sample.name == name]


def room_for(server: Server, share: float) -> int:
    """The limit with which a server has room for this share of what models hold now, in bytes.

    What the server itself takes is measured here, not asked for.
    """
    held = figures(server)["modelyard_memory_held_bytes"]
    own = steady(server).anonymous * MIB - held
    return round(own + share * held)


def _all(server: Server) -> Iterator[Sample]:
    for family in text_string_to_metric_families(server.metrics()):
        yield from family.samples
