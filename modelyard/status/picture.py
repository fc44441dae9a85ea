"""What is worth showing of a document of ``GET /status``. Pure: documents in, rows out.

Keys that a document does not have are nothing that is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Piece = Mapping[str, Any]

# Events that tell why a model is not in memory any more, or did not get there.
_DEPARTURES = frozenset({"evict", "park", "unload", "load_failed", "instance_lost"})
_LISTS = ("variants", "coming", "leaving")
_COMING = frozenset({"downloading", "loading"})


@dataclass(slots=True)
class Model:
    """A model of a variant: its places by the ids of instances, and what was measured of it."""

    target: str
    places: dict[str, Piece] = field(default_factory=dict)
    figures: Piece = field(default_factory=dict)
    per_second: float | None = None  # since the look before

    @property
    def invocations(self) -> int:
        """Since the endpoint's process began."""
        return int(self.figures.get("invocations", 0))

    @property
    def loaded(self) -> list[Piece]:
        """Where it is in memory; what a container has evicted for a while is not."""
        return [one for one in self.places.values() if _in_memory(one)]

    @property
    def coming(self) -> list[Piece]:
        """Where it is being downloaded or loaded."""
        return [one for one in self.places.values() if one.get("state") in _COMING]

    @property
    def memory(self) -> int | None:
        """Bytes that it holds, of all copies; None where no container tells."""
        held = [one["memory"] for one in self.loaded if one.get("memory") is not None]
        return sum(held) if held else None

    @property
    def waiting(self) -> int:
        """Requests that run or wait for it."""
        return sum(int(one.get("requests", 0)) for one in self.places.values())

    @property
    def last_used(self) -> float:
        """Seconds since 1970; 0.0 if nobody has used it."""
        used = [float(one.get("last_used") or 0.0) for one in self.loaded]
        return max([*used, float(self.figures.get("last_invoked") or 0.0)])


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant with its models; ``state`` is "" for one that serves, else coming or leaving."""

    name: str
    state: str
    piece: Piece
    models: Sequence[Model]

    @property
    def instances(self) -> Sequence[Piece]:
        """As the document has them."""
        found: Sequence[Piece] = self.piece.get("instances", ())
        return found

    @property
    def metrics(self) -> Piece:
        """As the document has them."""
        found: Piece = self.piece.get("metrics", {})
        return found

    def hottest(self, count: int) -> list[Model]:
        """Those that are asked most: lately if there was a look before, else since the start."""
        asked = [model for model in self.models if model.invocations]
        return sorted(asked, key=lambda one: (-(one.per_second or 0), -one.invocations))[:count]

    def coldest(self, count: int) -> list[Model]:
        """Of those in memory the ones that were not used for longest."""
        return sorted(
            (model for model in self.models if model.loaded), key=lambda one: one.last_used
        )[:count]

    def coming(self) -> list[Model]:
        """Those that are on their way, with the longest queues first."""
        coming = (model for model in self.models if model.coming)
        return sorted(coming, key=lambda one: (-one.waiting, one.target))


@dataclass(frozen=True, slots=True)
class Departure:
    """What became of a model or an instance: the event of the last time, and how often it was."""

    event: Piece
    times: int

    @property
    def name(self) -> str:
        """Of the model, else of the instance."""
        return str(self.event.get("target") or self.event.get("instance", ""))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint; of ``departures`` the newest come first."""

    name: str
    status: str
    variants: Sequence[Variant]
    departures: Sequence[Departure]


def endpoints(document: Piece, name: str | None, before: Piece | None = None) -> list[Endpoint]:
    """All of the document, or that of the name; rates are of the time since ``before``."""
    rates = _Rates(before, document)
    found = []
    for piece in document["endpoints"]:
        if name in (None, piece["name"]):
            variants = [
                Variant(one.get("name", ""), _state(key), one, _models(piece["name"], one, rates))
                for key in _LISTS
                for one in piece.get(key, ())
            ]
            departures = _departures(document, piece["name"])
            found.append(Endpoint(piece["name"], piece.get("status", ""), variants, departures))
    return found


def names(document: Piece) -> list[str]:
    """Of all endpoints."""
    return [one["name"] for one in document["endpoints"]]


class _Rates:
    """Invocations of models a second, between two documents."""

    def __init__(self, before: Piece | None, now: Piece) -> None:
        self._seconds = 0.0 if before is None else now.get("time", 0) - before.get("time", 0)
        self._before = dict(_counts(before)) if before is not None else {}

    def of(self, endpoint: str, variant: str, target: str, invocations: int) -> float | None:
        """None without a look before, and when counting has begun anew since."""
        before = self._before.get((endpoint, variant, target), 0)
        if self._seconds <= 0 or invocations < before:
            return None
        return (invocations - before) / self._seconds


def _counts(document: Piece) -> Iterator[tuple[tuple[str, str, str], int]]:
    for endpoint in document["endpoints"]:
        for variant in endpoint.get("variants", ()):
            for target, figures in variant.get("models", {}).items():
                key = (endpoint["name"], variant.get("name", ""), target)
                yield key, int(figures.get("invocations", 0))


def _models(endpoint: str, variant: Piece, rates: _Rates) -> list[Model]:
    found: dict[str, Model] = {}
    for target, figures in variant.get("models", {}).items():
        rate = rates.of(
            endpoint, variant.get("name", ""), target, int(figures.get("invocations", 0))
        )
        found[target] = Model(target, figures=figures, per_second=rate)
    for instance in variant.get("instances", ()):
        for place in instance.get("models", ()):
            model = found.setdefault(place["target"], Model(place["target"]))
            model.places[instance["id"]] = place
    return list(found.values())


def _departures(document: Piece, endpoint: str) -> list[Departure]:
    """Each once: a model that fails again and again hides nothing else."""
    last: dict[tuple[str, ...], Piece] = {}
    times: Counter[tuple[str, ...]] = Counter()
    for event in reversed(document.get("events", ())):
        if event.get("kind") in _DEPARTURES and event.get("endpoint") == endpoint:
            parts = [event["kind"], event.get("variant"), Departure(event, 1).name]
            key = tuple(map(str, parts))
            last.setdefault(key, event)
            times[key] += 1
    return [Departure(event, times[key]) for key, event in last.items()]


def _in_memory(place: Piece) -> bool:
    return place.get("state") == "loaded" and place.get("memory") != 0


def _state(key: str) -> str:
    return "" if key == "variants" else key
