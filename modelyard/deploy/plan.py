"""What a deployment is to be, and the definitions that SageMaker is given of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

VARIANT = "AllTraffic"
TAG = "modelyard:endpoint"

_MAX_NAME = 63
# Of the AWS Graviton processors, which are not x86.
_ARM_TYPE = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.")


@dataclass(frozen=True, slots=True)
class Plan:
    """One endpoint of many models, as it shall be.

    ``invocations`` a minute and instance are the goal of autoscaling, up to ``most_instances``; 0
    of these means none. ``alarms`` is None for none, "" for such that tell nobody, or the ARN of
    whom they tell. Without ``cache`` models are not kept in memory (ModelCacheSetting).
    """

    name: str
    models: str
    role: str
    instance_type: str
    instances: int
    most_instances: int
    invocations: int
    environment: Mapping[str, str]
    cache: bool
    alarms: str | None

    @property
    def bucket(self) -> str:
        """Of the models."""
        return urlsplit(self.models).netloc

    @property
    def prefix(self) -> str:
        """Of the models' keys."""
        return urlsplit(self.models).path.lstrip("/")

    @property
    def scales(self) -> bool:
        """Whether the number of instances follows the traffic."""
        return self.most_instances > 0

    @property
    def architecture(self) -> str:
        """Of the instances' processors, as container engines name it."""
        return "arm64" if _ARM_TYPE.match(self.instance_type) else "amd64"


def tags_of(name: str) -> list[dict[str, str]]:
    """What all that belongs to an endpoint bears."""
    return [{"Key": TAG, "Value": name}]


def model_of(plan: Plan, image: str) -> dict[str, Any]:
    """The members of CreateModel. Its name tells its content, so another content is another one."""
    container: dict[str, Any] = {"Image": image, "Mode": "MultiModel", "ModelDataUrl": plan.models}
    if plan.environment:
        container |= {"Environment": dict(plan.environment)}
    if not plan.cache:
        container |= {"MultiModelConfig": {"ModelCacheSetting": "Disabled"}}
    content: dict[str, Any] = {"ExecutionRoleArn": plan.role, "PrimaryContainer": container}
    return {"ModelName": _named(plan.name, content), **content, "Tags": tags_of(plan.name)}


def config_of(plan: Plan, model: str) -> dict[str, Any]:
    """The members of CreateEndpointConfig.

    The name does not tell the number of instances: that is changed without other instances, whose
    models would all have to be loaded again.
    """
    variant = {
        "VariantName": VARIANT,
        "ModelName": model,
        "InstanceType": plan.instance_type,
        "InitialVariantWeight": 1.0,
    }
    return {
        "EndpointConfigName": _named(plan.name, variant),
        "ProductionVariants": [{**variant, "InitialInstanceCount": plan.instances}],
        "Tags": tags_of(plan.name),
    }


def _named(endpoint: str, content: Mapping[str, Any]) -> str:
    text = json.dumps([endpoint, content], sort_keys=True)
    mark = blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{endpoint[: _MAX_NAME - 9].rstrip('-')}-{mark}"
