"""What has changed between two documents of ``GET /status``, as little as can be told.

A document is taken apart into what is always told whole, and the rows of models, of which there
may be thousands: those are told when they change. Pure: documents in, documents out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Rows = Mapping[str, Row]  # by target

# Of two versions of a model on one instance, the one that requests get is shown.
_NEAREST = ("loaded", "loading", "downloading", "unloading")


@dataclass(frozen=True, slots=True)
class Picture:
    """A document taken apart; ``events`` are those since the picture before."""

    time: float
    endpoints: Sequence[Mapping[str, Any]]  # without rows
    models: Mapping[str, Rows]  # of each instance, by its id
    metrics: Mapping[str, Rows]  # of each variant, by ENDPOINT/VARIANT
    events: Sequence[Any]


def picture(document: Mapping[str, Any]) -> Picture:
    """The document taken apart; it is not changed, and nor are its rows copied."""
    models: dict[str, Rows] = {}
    metrics: dict[str, Rows] = {}
    endpoints = [_endpoint(one, models, metrics) for one in document["endpoints"]]
    return Picture(document.get("time", 0.0), endpoints, models, metrics, document["events"])


def whole(now: Picture, events: Sequence[Any]) -> dict[str, Any]:
    """The document of a picture, with other events: what ``picture`` takes apart."""
    endpoints = [
        {**endpoint, **{key: _variants(endpoint, key, now) for key in _variant_keys(endpoint)}}
        for endpoint in now.endpoints
    ]
    return {"time": now.time, "endpoints": endpoints, "events": events}


def between(before: Picture, now: Picture) -> dict[str, Any] | None:
    """What has changed, or None; a row that is there no more is None.

    Rows of instances and variants that are gone are not told: ``endpoints`` tells that.
    """
    models = _rows_between(before.models, now.models)
    metrics = _rows_between(before.metrics, now.metrics)
    if not (models or metrics or now.events or now.endpoints != before.endpoints):
        return None
    return {
        "time": now.time,
        "endpoints": now.endpoints,
        "models": models,
        "metrics": metrics,
        "events": now.events,
    }


def _rows_between(
    before: Mapping[str, Rows], now: Mapping[str, Rows]
) -> dict[str, dict[str, Row | None]]:
    found = {}
    for name, rows in now.items():
        old = before.get(name, {})
        changed: dict[str, Row | None] = {
            target: row for target, row in rows.items() if old.get(target) != row
        }
        changed |= dict.fromkeys(old.keys() - rows.keys())
        if changed:
            found[name] = changed
    return found


# --- apart --------------------------------------------------------------------------------------


def _variant_keys(endpoint: Mapping[str, Any]) -> Iterator[str]:
    return (key for key in ("variants", "coming", "leaving") if key in endpoint)


def _endpoint(
    endpoint: Mapping[str, Any], models: dict[str, Rows], metrics: dict[str, Rows]
) -> dict[str, Any]:
    name = endpoint["name"]
    lists = {
        key: [_variant(name, one, models, metrics) for one in endpoint[key]]
        for key in _variant_keys(endpoint)
    }
    return {**endpoint, **lists}


def _variant(
    endpoint: str, variant: Mapping[str, Any], models: dict[str, Rows], metrics: dict[str, Rows]
) -> dict[str, Any]:
    # During an update there may be two of one name; what is measured has but one name.
    metrics.setdefault(f"{endpoint}/{variant['name']}", variant.get("models", {}))
    instances = []
    for instance in variant["instances"]:
        models[instance["id"]] = _by_target(instance.get("models", ()))
        instances.append(_without_models(instance))
    return {**_without_models(variant), "instances": instances}


def _without_models(whole: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in whole.items() if key != "models"}


def _by_target(models: Sequence[Row]) -> Rows:
    found: dict[str, Row] = {}
    for model in models:
        other = found.get(model["target"])
        if other is None or _distance(model) < _distance(other):
            found[model["target"]] = model
    return found


def _distance(model: Row) -> int:
    state = model["state"]
    return _NEAREST.index(state) if state in _NEAREST else len(_NEAREST)


# --- together -----------------------------------------------------------------------------------


def _variants(endpoint: Mapping[str, Any], key: str, now: Picture) -> list[dict[str, Any]]:
    return [
        {
            **variant,
            "models": now.metrics[f"{endpoint['name']}/{variant['name']}"],
            "instances": [
                {**instance, "models": [*now.models[instance["id"]].values()]}
                for instance in variant["instances"]
            ],
        }
        for variant in endpoint[key]
    ]
