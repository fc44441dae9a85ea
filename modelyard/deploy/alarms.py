"""CloudWatch alarms of an endpoint of many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import VARIANT, Plan, tags_of
from modelyard.deploy.undo import Undo
from modelyard.say import say

SERVICE = "cloudwatch"

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Alarm:
    """A metric of SageMaker's that is beyond a threshold for some minutes."""

    what: str
    metric: str
    statistic: str
    above: float | None
    below: float | None
    minutes: int


# Times of SageMaker's are in microseconds.
ALARMS = (
    Alarm("errors: more than 1 % of the requests", "Invocation5XXErrors", "Average", 0.01, None, 3),
    Alarm(
        *("latency: 1 % of the requests take more than 30 of the 60 s that there are",),
        *("ModelLatency", "p99", 30 * _MICROSECONDS, None, 5),
    ),
    Alarm(
        *("loading: requests wait more than 10 s for a model",),
        *("ModelLoadingWaitTime", "Average", 10 * _MICROSECONDS, None, 10),
    ),
    Alarm(
        *("memory: less than 80 % of the requests find their model loaded",),
        *("ModelCacheHit", "Average", None, 0.8, 30),
    ),
)


class Alarms:
    """Those of the endpoint ``name``. Raises what boto3 raises."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self._name = name

    def found(self) -> dict[str, dict[str, Any]]:
        """Those that there are, by name."""
        names = [self._named(alarm) for alarm in ALARMS]
        listed = self._calls.ask(SERVICE, "describe_alarms", AlarmNames=names)["MetricAlarms"]
        return {each["AlarmName"]: each for each in listed}

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
        comparison = (
            ("GreaterThanThreshold", alarm.above)
            if alarm.below is None
            else ("LessThanThreshold", alarm.below)
        )
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
            "ComparisonOperator": comparison[0],
            "Threshold": comparison[1],
            "TreatMissingData": "notBreaching",
        }
