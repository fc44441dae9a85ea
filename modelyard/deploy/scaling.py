"""The number of instances follows the traffic: Application Auto Scaling, by a target."""

from __future__ import annotations

from typing import Any

from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import VARIANT, Plan
from modelyard.deploy.problems import DeployError
from modelyard.deploy.undo import Undo
from modelyard.say import say

SERVICE = "application-autoscaling"

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_METRIC = "SageMakerVariantInvocationsPerInstance"
# A new instance takes minutes and starts with no model: leaving is slower than coming.
_SCALE_OUT_SECONDS, _SCALE_IN_SECONDS = 60, 600


class Scaling:
    """That of the endpoint ``name``. Raises what boto3 raises."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        resource = f"endpoint/{name}/variant/{VARIANT}"
        self._target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource,
            "ScalableDimension": _DIMENSION,
        }
        self._policy_name = f"modelyard-{name}"

    def found(self) -> dict[str, Any] | None:
        """The target that is registered."""
        if not self._calls.reaches(SERVICE):
            return None
        listed = self._calls.ask(
            *(SERVICE, "describe_scalable_targets"),
            ServiceNamespace="sagemaker",
            ResourceIds=[self._target["ResourceId"]],
            ScalableDimension=_DIMENSION,
        )
        return next(iter(listed["ScalableTargets"]), None)

    def check(self, plan: Plan) -> None:
        """Whether it can be asked at all, before anything is begun."""
        if plan.scales and not self._calls.reaches(SERVICE):
            raise DeployError("a local endpoint has no autoscaling: leave out --max-instances", 2)
        self.found()

    def ensure(self, plan: Plan, undo: Undo) -> None:
        """As planned; none if none is."""
        found = self.found()
        if not plan.scales:
            self.delete()
            return
        limits = {"MinCapacity": plan.instances, "MaxCapacity": plan.most_instances}
        if found is None or any(found[name] != limit for name, limit in limits.items()):
            say(f"autoscaling between {plan.instances} and {plan.most_instances} instances")
            self._calls.change(SERVICE, "register_scalable_target", **self._target, **limits)
            if found is None:
                undo.add(self._calls.remove, SERVICE, "deregister_scalable_target", **self._target)
        wanted = _policy(plan)
        there = self._policy()
        if any(there.get(key) != value for key, value in wanted.items()):
            say(f"autoscaling at {plan.invocations} invocations a minute and instance")
            self._calls.change(
                *(SERVICE, "put_scaling_policy"),
                **self._target,
                PolicyName=self._policy_name,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration=wanted,
            )

    def delete(self) -> bool:
        """Remove it, with its policies; returns whether there was any."""
        if self.found() is None:
            return False
        say("deleting autoscaling")
        return self._calls.remove(SERVICE, "deregister_scalable_target", **self._target)

    def _policy(self) -> dict[str, Any]:
        listed = self._calls.ask(
            *(SERVICE, "describe_scaling_policies"),
            **self._target,
            PolicyNames=[self._policy_name],
        )
        found: list[dict[str, Any]] = [
            each["TargetTrackingScalingPolicyConfiguration"] for each in listed["ScalingPolicies"]
        ]
        return found[0] if found else {}


def _policy(plan: Plan) -> dict[str, Any]:
    return {
        "TargetValue": float(plan.invocations),
        "PredefinedMetricSpecification": {"PredefinedMetricType": _METRIC},
        "ScaleOutCooldown": _SCALE_OUT_SECONDS,
        "ScaleInCooldown": _SCALE_IN_SECONDS,
    }
