"""Documents of ``GET /status``, made up."""

from __future__ import annotations

from typing import Any

MIB = 1 << 20
NOW = 1_700_000_000.0


def lately(p50: float, p99: float) -> dict[str, float]:
    """Milliseconds."""
    return {"mean": (p50 + p99) / 2, "p50": p50, "p99": p99}


def place(target: str, state: str = "loaded", **others: Any) -> dict[str, Any]:
    """A model on an instance."""
    return {
        "target": target, "id": "id", "state": state, "bytes": 5 * MIB, "last_used": NOW - 10,
        "requests": 0, "invokes": 1, "memory": 20 * MIB, **others,
    }  # fmt: skip


def figures(invocations: int = 1, **others: Any) -> dict[str, Any]:
    """What was measured of a model."""
    return {
        "invocations": invocations, "errors": 0, "cold_starts": 1, "latency_ms": lately(2, 80),
        "loading_wait_ms": None, "last_invoked": NOW - 10, **others,
    }  # fmt: skip


def instance(*models: dict[str, Any], id: str = "ep.v.0.0", **others: Any) -> dict[str, Any]:
    """An instance that serves."""
    return {
        "id": id, "url": "http://127.0.0.1:1", "handle": {}, "state": "serving", "requests": 3,
        "memory": {"used": 512 * MIB, "limit": 2048 * MIB}, "cpu_percent": 37.4, "gpus": [],
        "loaded": len(models), "models": list(models),
        "disk": {"used": 100 * MIB, "budget": 30 * 1024 * MIB, "models": 7}, **others,
    }  # fmt: skip


def variant(*instances: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A variant; ``models`` are figures by target."""
    metrics = {
        "invocations": 1234, "errors": 2, "model_errors": 1, "cold_starts": 7, "evictions": 5,
        "invocations_per_second": 12.34, "model_latency_ms": lately(3.2, 61),
        "overhead_latency_ms": lately(0.42, 2.1), "loading_wait_ms": lately(84, 1300),
    }  # fmt: skip
    return {
        "name": "v", "weight": 1.0, "desired_instances": len(instances),
        "instances": list(instances), "metrics": metrics, "models": {}, **others,
    }  # fmt: skip


def event(kind: str, target: str = "", **others: Any) -> dict[str, Any]:
    """Of the endpoint ``ep``."""
    return {
        "number": 1, "time": NOW, "endpoint": "ep", "variant": "v", "instance": "ep.v.0.0",
        "kind": kind, "target": target, "seconds": None, "text": "", **others,
    }  # fmt: skip


def document(
    *variants: dict[str, Any], events: tuple[Any, ...] = (), **others: Any
) -> dict[str, Any]:
    """With one endpoint, ``ep``."""
    endpoint = {
        "name": "ep", "status": "InService", "variants": list(variants), "coming": [],
        "leaving": [],
    }  # fmt: skip
    return {"time": NOW, "endpoints": [endpoint], "events": list(events), **others}
