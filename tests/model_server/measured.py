"""What ``GET /metrics`` says, as numbers."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from ..contract.endpoint import Endpoint
from ..contract.polling import eventually


class Numbers:
    """One answer of ``/metrics``."""

    def __init__(self, endpoint: Endpoint) -> None:
        response = endpoint.send("GET", "/metrics")
        assert response.status_code == 200, response.text
        self._values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The value of ``modelyard_<name>`` with these labels; 0 where there is none."""
        return self._values.get((f"modelyard_{name}", tuple(sorted(labels.items()))), 0.0)


def measured(endpoint: Endpoint, check: Callable[[Numbers], bool]) -> bool:
    """Whether the metrics come to say so; gateways tell of themselves once a second."""
    return eventually(lambda: check(Numbers(endpoint)))
