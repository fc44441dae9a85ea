"""InvokeEndpoint: from headers to an ``Invocation``, and from a ``Reply`` to headers.

What a client sends is held to the limits of sagemaker-runtime's model, written down here so that
no request has to look into the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from endpoint.api import constraints
from endpoint.errors import ValidationError
from endpoint.invocation import Headers, Invocation, Progress, Reply
from endpoint.names import MAX_NAME, NAME_PATTERN

PREFIX = "X-Amzn-SageMaker-"
TARGET_MODEL = PREFIX + "Target-Model"
TARGET_VARIANT = PREFIX + "Target-Variant"
CUSTOM_ATTRIBUTES = PREFIX + "Custom-Attributes"
SESSION_ID = PREFIX + "Session-Id"
NEW_SESSION_ID = PREFIX + "New-Session-Id"
CLOSED_SESSION_ID = PREFIX + "Closed-Session-Id"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
LOADING_WAIT_TIME = "X-Modelyard-Loading-Wait-Time"  # microseconds; the platform has no such header

_FORWARDED_API = (PREFIX + "Forwarded-Api", "InvokeEndpoint")

_ASCII = r"\p{ASCII}*"
_PRINTABLE = r"\A\S[\p{Print}]*\z"
_SESSION_PATTERN = "^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$"

# Java's patterns, as the platform's messages show them, in Python.
_COMPILED = {
    _ASCII: re.compile(r"[\x00-\x7f]*"),
    _PRINTABLE: re.compile(r"[\x21-\x7e][\x20-\x7e]*"),
    NAME_PATTERN: re.compile(NAME_PATTERN),
    _SESSION_PATTERN: re.compile(_SESSION_PATTERN),
}


@dataclass(frozen=True, slots=True)
class _Limit:
    """What a header may hold, and what the platform calls it."""

    header: str
    member: str
    most: int
    pattern: str
    least: int = 0
    seen: bool = True  # by the container

    def broken_by(self, value: str) -> Iterator[str]:
        if len(value) < self.least:
            yield constraints.violation(value, self.member, constraints.length(at_least=self.least))
        if len(value) > self.most:
            yield constraints.violation(value, self.member, constraints.length(at_most=self.most))
        elif _COMPILED[self.pattern].fullmatch(value) is None:
            yield constraints.violation(value, self.member, constraints.pattern(self.pattern))


_ENDPOINT_NAME = _Limit("", "endpointName", MAX_NAME, NAME_PATTERN)

# In the order in which the container gets them.
_LIMITS = (
    _Limit("Content-Type", "contentType", 1024, _ASCII),
    _Limit("Accept", "accept", 1024, _ASCII),
    _Limit(CUSTOM_ATTRIBUTES, "customAttributes", 1024, _ASCII),
    _Limit(TARGET_MODEL, "targetModel", 1024, _PRINTABLE, least=1),
    _Limit(PREFIX + "Inference-Id", "inferenceId", 64, _PRINTABLE, least=1),
    _Limit(SESSION_ID, "sessionId", 256, _SESSION_PATTERN),
    _Limit(TARGET_VARIANT, "targetVariant", MAX_NAME, NAME_PATTERN, seen=False),
    _Limit(PREFIX + "Prefix-Aware-Id", "prefixAwareId", 64, _PRINTABLE, least=1, seen=False),
)

_UNSUPPORTED = {
    PREFIX + "Target-Container-Hostname": (
        "TargetContainerHostname is not supported here: a model has one container."
    ),
    PREFIX + "Inference-Component": (
        "InferenceComponentName is not supported here: there are no inference components; name "
        "the model with TargetModel."
    ),
    PREFIX + "Enable-Explanations": (
        "EnableExplanations is not supported here: endpoints have no explainers."
    ),
}


def invocation_of(
    endpoint: str, headers: Mapping[str, str], body: bytes, request_id: str
) -> Invocation:
    """The request in its own terms. ``headers`` are looked up in any case. Raises ValidationError.

    One "/" at the front of TargetModel is dropped: some of the SDK's examples write it so.
    """
    given = [(limit, headers[limit.header]) for limit in _LIMITS if limit.header in headers]
    broken = list(_ENDPOINT_NAME.broken_by(endpoint))
    for limit, value in given:
        broken += limit.broken_by(value)
    if broken:
        raise ValidationError(constraints.message(broken))
    for header, text in _UNSUPPORTED.items():
        if header in headers:
            raise ValidationError(text)
    seen = {limit.header: value for limit, value in given if limit.seen}
    target = None
    if TARGET_MODEL in seen:
        target = seen[TARGET_MODEL] = _below_prefix(seen[TARGET_MODEL])
    return Invocation(
        endpoint=endpoint,
        request_id=request_id,
        headers=(*seen.items(), _FORWARDED_API),
        body=body,
        target_model=target,
        target_variant=headers.get(TARGET_VARIANT),
    )


def _below_prefix(target: str) -> str:
    """The name relative to the prefix; never one that leads out of it."""
    name = target.removeprefix("/")
    parts = name.split("/")
    if not parts[0] or ".." in parts or "." in parts:
        raise ValidationError(
            f"Invalid TargetModel '{target}': it must be the path of an archive below the model's "
            "ModelDataUrl prefix, such as 'company_a/model.tar.gz', without '.' or '..'."
        )
    return name


def headers_of(reply: Reply, progress: Progress) -> Headers:
    """Those of a container's headers that the client gets, and the variant that answered.

    Where there are many models, also for how long the request waited for its own.
    """
    found = {name.lower(): value for name, value in reply.headers}
    given = [(INVOKED_VARIANT, reply.variant)]
    if progress.hit is not None:
        given.append((LOADING_WAIT_TIME, str(round(progress.waited_seconds * 1_000_000))))
    for name, value in (
        ("Content-Type", found.get("content-type")),
        (CUSTOM_ATTRIBUTES, found.get(CUSTOM_ATTRIBUTES.lower())),
        (NEW_SESSION_ID, _new_session(found)),
        (CLOSED_SESSION_ID, found.get(CLOSED_SESSION_ID.lower())),
    ):
        if value is not None:
            given.append((name, _sendable(value)))
    return tuple(given)


def _new_session(found: Mapping[str, str]) -> str | None:
    """Containers spell it in two ways; without an expiry it is no new session but an echo."""
    if (new := found.get(NEW_SESSION_ID.lower())) is not None:
        return new
    other = found.get(SESSION_ID.lower(), "")
    return other if "expires=" in other.lower() else None


def _sendable(value: str) -> str:
    """A header of a container, which may hold bytes that are no text."""
    return value.encode("utf-8", "replace").decode().replace("\r", " ").replace("\n", " ")
