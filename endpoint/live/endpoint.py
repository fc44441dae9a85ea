"""An endpoint that runs: its variants, and which of them takes a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from endpoint.errors import ServiceUnavailable, ValidationError
from endpoint.invocation import Invocation, Reply
from endpoint.live.sessions import session_of
from endpoint.live.variant import Variant
from endpoint.routing.variants import pick
from endpoint.specs import Mode


class LiveEndpoint:
    """An endpoint. ``variants`` are those that take requests; an update replaces all at once.

    Beside them run those that are ``coming`` up, and those that are ``leaving``: they finish what
    they have. ``dice`` is from [0, 1) each time.
    """

    def __init__(self, name: str, dice: Callable[[], float]) -> None:
        self.name = name
        self.variants: dict[str, Variant] = {}
        self.coming: list[Variant] = []
        self.leaving: list[Variant] = []
        self._dice = dice
        # Creating, updating or deleting it; one at a time.
        self.change: asyncio.Task[None] | None = None

    async def invoke(self, invocation: Invocation, deadline: float) -> Reply:
        """A container's answer. Raises ApiError."""
        while True:
            variant = self._variant_for(invocation)
            invocation.progress.variant = variant.spec.name
            _check_target(invocation, variant)
            try:
                answer = await variant.invoke(invocation, deadline)
            except ServiceUnavailable:
                if variant in self.variants.values() or not self.variants:
                    raise  # else an update has replaced it
            else:
                return Reply(answer.status, answer.headers, answer.body, variant.spec.name)

    def shown(self) -> list[Variant]:
        """The variants for people: before any takes requests, those that come up."""
        return list(self.variants.values()) or self.coming or self.leaving

    def all(self) -> list[Variant]:
        """All that have instances, or may have."""
        return [*self.variants.values(), *self.coming, *self.leaving]

    def summary(self, *, disk: bool) -> dict[str, list[dict[str, Any]]]:
        """The variants for ``GET /status``; each is in one of the lists."""
        shown = self.shown()
        lists = {
            "variants": shown,
            "coming": [one for one in self.coming if one not in shown],
            "leaving": [one for one in self.leaving if one not in shown],
        }
        return {key: [one.summary(disk=disk) for one in ones] for key, ones in lists.items()}

    def _variant_for(self, invocation: Invocation) -> Variant:
        wanted = invocation.target_variant
        if wanted is not None:
            if wanted not in self.variants:
                raise ValidationError(
                    f"Variant {wanted} not found in endpoint {self.name}; its variants are "
                    f"{', '.join(self.variants)}."
                )
            return self.variants[wanted]
        if session := session_of(invocation.headers):
            for variant in self.variants.values():
                if variant.has_session(session):
                    return variant
        if len(self.variants) == 1:
            (only,) = self.variants.values()
            return only
        name = pick([(one.spec.name, one.weight) for one in self.variants.values()], self._dice())
        if name is None:
            raise ServiceUnavailable(
                f"No variant of endpoint {self.name} has a weight above 0; TargetVariant names one."
            )
        return self.variants[name]


def _check_target(invocation: Invocation, variant: Variant) -> None:
    multi = variant.spec.container.mode is Mode.MULTI
    if multi and invocation.target_model is None:
        raise ValidationError(
            f"Request {invocation.request_id} is missing a target model header: endpoint "
            f"{invocation.endpoint} has many models, and TargetModel names one of them."
        )
    if not multi and invocation.target_model is not None:
        raise ValidationError(
            f"Endpoint {invocation.endpoint} is not a multi-model endpoint and does not support "
            "target model header."
        )
