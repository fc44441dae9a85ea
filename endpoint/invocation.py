"""An InvokeEndpoint request and its answer, as the API hands them on."""

from __future__ import annotations

from dataclasses import dataclass, field

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Progress:
    """What became of a request on its way, for the metrics; the parts that take it note it here.

    ``hit`` says whether the model was in the memory of the instance that took the request; None for
    one that no instance has taken, or of an endpoint of a single model.
    """

    variant: str = ""
    instance: str = ""
    hit: bool | None = None
    waited_seconds: float = 0.0  # for the model to be downloaded and loaded
    model_seconds: float = 0.0  # in the container, seen from here, without what is told of a load
    serving: int = 0  # instances of the variant that took requests just then


@dataclass(frozen=True, slots=True)
class Invocation:
    """A request. ``headers`` are those that the container is to see, and no others."""

    endpoint: str
    request_id: str
    headers: Headers
    body: bytes = field(repr=False)
    target_model: str | None = None
    target_variant: str | None = None
    progress: Progress = field(default_factory=Progress, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A container's answer with a status below 400, and the variant that it is from."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    variant: str = ""
