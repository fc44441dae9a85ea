"""An InvokeEndpoint request and its answer, as the API hands them on."""

from __future__ import annotations

from dataclasses import dataclass, field

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """A request. ``headers`` are those that the container is to see, and no others."""

    endpoint: str
    request_id: str
    headers: Headers
    body: bytes = field(repr=False)
    target_model: str | None = None
    target_variant: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A container's answer with a status below 400, and the variant that it is from."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    variant: str = ""
