"""Single figures out of what GET /metrics says."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.servers import Server


def figures(server: Server) -> dict[str, float]:
    """Every sample by its name; those that differ in labels only are added up."""
    found: dict[str, float] = {}
    for sample in _all(server):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def samples(server: Server, name: str) -> list[float]:
    """The values of all samples of this name."""
    return [sample.value for sample in _all(server) if sample.name == name]


def _all(server: Server) -> Iterator[Sample]:
    for family in text_string_to_metric_families(server.metrics()):
        yield from family.samples
