"""Model, configuration and endpoint: made, changed, waited for, removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import TAG, VARIANT, Plan, config_of, model_of, tags_of
from modelyard.deploy.problems import DeployError
from modelyard.deploy.undo import Undo
from modelyard.say import say

SERVICE = "sagemaker"

_SETTLED = frozenset({"InService", "Failed", "OutOfService", "UpdateRollbackFailed"})
_LEAVING = "Deleting"
# Looked at often at first: a local endpoint takes a second, SageMaker minutes.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 15.0
# SageMaker itself gives up well before.
_PATIENCE_SECONDS = 3600.0


class StillGoing(DeployError):
    """Raised when AWS has not come to an end, within our patience or at all; nothing is undone."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two things that an endpoint is made of, by the names that its calls have."""

    word: str
    list: str
    listed: str
    name: str
    arn: str
    delete: str


MODELS = Kind("model", "list_models", "Models", "ModelName", "ModelArn", "delete_model")
CONFIGS = Kind(
    *("configuration", "list_endpoint_configs", "EndpointConfigs"),
    *("EndpointConfigName", "EndpointConfigArn", "delete_endpoint_config"),
)


class Endpoint:
    """The endpoint ``name`` and what it is made of. Raises DeployError and what boto3 raises."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self._name = name

    def check_ours(self) -> None:
        """An endpoint that somebody made otherwise is not touched."""
        found = self._found()
        if found is not None and not self._is_ours(found["EndpointArn"]):
            raise DeployError(
                f"there is an endpoint {self._name} that `modelyard deploy` has not made, and "
                "it is left as it is: choose another name, or take this one over by the tag "
                f"{TAG}={self._name}",
                2,
            )

    def ensure(self, plan: Plan, image: str, undo: Undo) -> None:
        """Make it as planned, and return when it is in service."""
        found = self._settled()
        if found is not None and found["EndpointStatus"] == "Failed":
            say(f"endpoint {self._name} has failed before, and is made anew")
            self._delete()
            found = None
        model, config = self._ensure_parts(plan, image, undo)
        names = {"EndpointName": self._name, "EndpointConfigName": config}
        if found is None:
            say(f"creating endpoint {self._name}: on SageMaker this takes minutes")
            self._calls.change(SERVICE, "create_endpoint", **names, Tags=tags_of(self._name))
            undo.add(self._delete)
        elif found["EndpointConfigName"] != config:
            say(f"updating endpoint {self._name}; it serves meanwhile")
            keep = {"RetainAllVariantProperties": True} if plan.scales else {}
            self._calls.change(SERVICE, "update_endpoint", **names, **keep)
        else:
            self._ensure_count(plan, found)
        self._check(config)
        if found is not None:
            undo.keep()  # it serves as planned, whatever comes of the rest
        self._clear(keep=(model, config))

    def delete(self) -> bool:
        """Remove it and what it is made of; returns whether there was anything."""
        found = self._settled() is not None
        if found:
            say(f"deleting endpoint {self._name}")
            self._delete()
        return self._clear(keep=()) or found

    # --- parts ----------------------------------------------------------------------------------

    def _ensure_parts(self, plan: Plan, image: str, undo: Undo) -> tuple[str, str]:
        """Returns the names of model and configuration."""
        model = model_of(plan, image)
        name = model["ModelName"]
        if self._calls.find(SERVICE, "describe_model", ModelName=name) is None:
            say(f"creating model {name} of {image}")
            self._calls.change(SERVICE, "create_model", **model)
            undo.add(self._calls.remove, SERVICE, "delete_model", ModelName=name)
        config = config_of(plan, name)
        named = {"EndpointConfigName": config["EndpointConfigName"]}
        if self._calls.find(SERVICE, "describe_endpoint_config", **named) is None:
            say(f"creating endpoint configuration {named['EndpointConfigName']}")
            self._calls.change(SERVICE, "create_endpoint_config", **config)
            undo.add(self._calls.remove, SERVICE, "delete_endpoint_config", **named)
        return name, named["EndpointConfigName"]

    def _ensure_count(self, plan: Plan, found: dict[str, Any]) -> None:
        """The number of instances, unless it follows the traffic."""
        (variant,) = found["ProductionVariants"]
        if plan.scales or variant["DesiredInstanceCount"] == plan.instances:
            return
        say(f"changing endpoint {self._name} to {plan.instances} instances")
        wanted = {"VariantName": VARIANT, "DesiredInstanceCount": plan.instances}
        self._calls.change(
            *(SERVICE, "update_endpoint_weights_and_capacities"),
            EndpointName=self._name,
            DesiredWeightsAndCapacities=[wanted],
        )

    def _clear(self, keep: tuple[str, ...]) -> bool:
        """Remove configurations and models of ours but these; returns whether there were any."""
        cleared = False
        for kind in (CONFIGS, MODELS):
            for name in [name for name in self._ours(kind) if name not in keep]:
                say(f"deleting {kind.word} {name}")
                self._calls.remove(SERVICE, kind.delete, **{kind.name: name})
                cleared = True
        return cleared

    def _ours(self, kind: Kind) -> Iterator[str]:
        """Names that begin as ours do, of what bears our tag."""
        start = self._name[:50]
        for each in self._calls.pages(SERVICE, kind.list, kind.listed, NameContains=start):
            if self._is_ours(each[kind.arn]):
                yield each[kind.name]

    def _is_ours(self, arn: str) -> bool:
        tags = self._calls.ask(SERVICE, "list_tags", ResourceArn=arn)["Tags"]
        return tags_of(self._name)[0] in tags

    # --- the endpoint ---------------------------------------------------------------------------

    def _found(self) -> dict[str, Any] | None:
        return self._calls.find(SERVICE, "describe_endpoint", EndpointName=self._name)

    def _settled(self) -> dict[str, Any] | None:
        """It, when nothing happens to it any more; None if there is none."""
        pause, told = _FIRST_PAUSE_SECONDS, ""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (found := self._found()) is not None:
            status = found["EndpointStatus"]
            if status in _SETTLED or self._calls.dry_run:
                return None if status == _LEAVING else found
            if time.monotonic() > deadline:
                raise StillGoing(f"endpoint {self._name} is still {status}; try again later")
            if status != told:
                say(f"endpoint {self._name}: {status}")
                told = status
            time.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)
        return None

    def _check(self, config: str) -> None:
        """It must be in service with that configuration. A dry run has changed nothing."""
        if self._calls.dry_run:
            return
        found = self._settled()
        if found is None:
            raise DeployError(f"endpoint {self._name} was deleted meanwhile")
        status, reason = found["EndpointStatus"], found.get("FailureReason", "")
        if status == "InService" and found["EndpointConfigName"] == config:
            say(f"endpoint {self._name} is in service")
            return
        if status == "InService":
            status = "as it was before: the update was rolled back"
        # What it may still use is not taken back.
        error = StillGoing if status == "UpdateRollbackFailed" else DeployError
        raise error(
            f"endpoint {self._name} is {status}{f': {reason}' if reason else ''}\n"
            f"what its containers printed: aws logs tail /aws/sagemaker/Endpoints/{self._name} "
            f"--region {self._calls.region}"
        )

    def _delete(self) -> None:
        self._calls.remove(SERVICE, "delete_endpoint", EndpointName=self._name)
        if not self._calls.dry_run:
            self._settled()
