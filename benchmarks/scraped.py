"""Single figures out of what GET /metrics says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.servers import Server


def figures(server: Server) -> dict[str, float]:
    """Every sample by its name; those that differ in labels only are added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(server.metrics()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
