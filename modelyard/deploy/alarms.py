"""CloudWatch alarms of an endpoint of many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import VARIANT, Plan, tags_of
from modelyard.deploy.problems import DeployError, code_of
from modelyard.deploy.undo import Undo
from modelyard.say import say

SERVICE = "cloudwatch"

_UNKNOWN_OPERATION = frozenset({"UnknownOperationException", "InvalidAction"})
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Alarm:
    """A metric of SageMaker's that is beyond a threshold for some minutes."""

    what: str
    metric: str
    statistic: str
    minutes: int
    above: float | None = None
    below: float | None = None


# Times of SageMaker's are in microseconds.
ALARMS = (
    Alarm(
        what="errors: more than 1 % of the requests",
        metric="Invocation5XXErrors",
        statistic="Average",
        above=0.01,
        minutes=3,
    ),
    Alarm(
        what="latency: 1 % of the requests take more than 30 of the 60 s that there are",
        metric="ModelLatency",
        statistic="p99",
        above=30 * _MICROSECONDS,
        minutes=5,
    ),
    Alarm(
        what="loading: requests wait more than 10 s for a model",
        metric="ModelLoadingWaitTime",
        statistic="Average",
        above=10 * _MICROSECONDS,
        minutes=10,
    ),
    Alarm(
        what="memory: less than 80 % of the requests find their model loaded",
        metric="ModelCacheHit",
        statistic="Average",
        below=0.8,
        minutes=30,
    ),
)


class Alarms:
    """Those of the endpoint ``name``. Raises what boto3 raises."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self._name = name

    def found(self) -> dict[str, dict[str, Any]]:
        """Those that there are, by name."""
        return self._listed() or {}

    def check(self, plan: Plan) -> None:
        """Whether they can be asked for at all, before anything is begun."""
        if self._listed() is None and plan.alarms is not None:
            raise DeployError("a local endpoint has no alarms: leave out --alarms", 2)

    def _listed(self) -> dict[str, dict[str, Any]] | None:
        """None where nobody knows of alarms: a local endpoint has metrics only."""
        if not self._calls.reaches(SERVICE):
            return None
        names = [self._named(alarm) for alarm in ALARMS]
        try:
            listed = self._calls.ask(SERVICE, "describe_alarms", AlarmNames=names)
        except ClientError as error:
            if code_of(error) in _UNKNOWN_OPERATION:
                return None
            raise
        return {each["AlarmName"]: _ordered(each) for each in listed["MetricAlarms"]}

    def ensure(self, plan: Plan, undo: Undo) -> None:
        """As planned; none if none are."""
        if plan.alarms is None:
            self.delete()
            return
        found = self.found()
        for alarm in ALARMS:
            wanted = self._definition(alarm, plan.alarms)
            there = found.get(wanted["AlarmName"])
            if there is not None and all(there.get(key) == wanted[key] for key in wanted):
                continue
            say(f"alarm for {alarm.what}")
            tags = {"Tags": tags_of(self._name)} if there is None else {}
            self._calls.change(SERVICE, "put_metric_alarm", **wanted, **tags)
            if there is None:
                undo.add(
                    self._calls.remove, SERVICE, "delete_alarms", AlarmNames=[wanted["AlarmName"]]
                )

    def delete(self) -> bool:
        """Remove them; returns whether there were any."""
        names = sorted(self.found())
        if names:
            say(f"deleting {len(names)} alarms")
            self._calls.remove(SERVICE, "delete_alarms", AlarmNames=names)
        return bool(names)

    def _named(self, alarm: Alarm) -> str:
        return f"modelyard-{self._name}-{alarm.metric}"

    def _definition(self, alarm: Alarm, topic: str) -> dict[str, Any]:
        """The members of PutMetricAlarm, but for tags."""
        percentile = alarm.statistic.startswith("p")
        comparison, threshold = "GreaterThanThreshold", alarm.above
        if alarm.below is not None:
            comparison, threshold = "LessThanThreshold", alarm.below
        return {
            "AlarmName": self._named(alarm),
            "AlarmDescription": f"{self._name}: {alarm.what}",
            "ActionsEnabled": True,
            "AlarmActions": [topic] if topic else [],
            "OKActions": [topic] if topic else [],
            "Namespace": "AWS/SageMaker",
            "MetricName": alarm.metric,
            "Dimensions": [
                {"Name": "EndpointName", "Value": self._name},
                {"Name": "VariantName", "Value": VARIANT},
            ],
            "ExtendedStatistic" if percentile else "Statistic": alarm.statistic,
            "Period": 60,
            "EvaluationPeriods": alarm.minutes,
            "ComparisonOperator": comparison,
            "Threshold": threshold,
            "TreatMissingData": "notBreaching",
        }


def _ordered(alarm: dict[str, Any]) -> dict[str, Any]:
    """With its dimensions in the order of ours, whatever theirs is."""
    return {**alarm, "Dimensions": sorted(alarm["Dimensions"], key=lambda one: str(one["Name"]))}
