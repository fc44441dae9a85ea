"""The template and the policies of ``deploy/`` say what the commands do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from modelyard.deploy.alarms import ALARMS
from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import Plan
from modelyard.deploy.scaling import Scaling
from modelyard.deploy.undo import Undo
from tests.deploy.conftest import MODELS, REGION, ROLE, Aws
from tests.deploy.rights import DEPLOYER, POLICIES, actions
from tests.podman import ROOT

TEMPLATE = ROOT / "deploy" / "cloudformation.yaml"
# Rights that are none of an operation's name.
OTHER_RIGHTS = {"iam:PassRole", "s3:ListBucket"}
# Of the registry that the image is pushed to, which is not asked by boto3.
OF_A_PUSH = {
    *("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload"),
    *("InitiateLayerUpload", "PutImage", "UploadLayerPart", "TagResource"),
}


def test_the_template_passes_cfn_lint() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [lint, TEMPLATE], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout


class _Template(yaml.SafeLoader):
    """Reads functions, such as !Ref, as what stands behind them."""


_Template.add_multi_constructor(
    "!",
    lambda loader, _, node: (
        loader.construct_scalar(node)
        if isinstance(node, yaml.ScalarNode)
        else loader.construct_sequence(node)
    ),
)


def resources() -> dict[str, dict[str, Any]]:
    loaded = yaml.load(TEMPLATE.read_text(), Loader=_Template)
    return {name: each["Properties"] for name, each in loaded["Resources"].items()}


def test_the_template_has_the_alarms_of_the_command() -> None:
    there = {
        (
            each["MetricName"],
            each.get("Statistic") or each.get("ExtendedStatistic"),
            each["ComparisonOperator"],
            each["Threshold"],
            each["EvaluationPeriods"],
        )
        for each in resources().values()
        if "MetricName" in each
    }
    assert there == {
        (
            alarm.metric,
            alarm.statistic,
            "GreaterThanThreshold" if alarm.below is None else "LessThanThreshold",
            alarm.above if alarm.below is None else alarm.below,
            alarm.minutes,
        )
        for alarm in ALARMS
    }


def test_the_template_scales_as_the_command(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.variables().items():
        monkeypatch.setenv(name, value)
    shown: list[str] = []
    plan = Plan("many", MODELS, ROLE, "ml.m5.xlarge", 1, 3, 600, {}, cache=True, alarms=None)
    Scaling(Calls(REGION, dry_run=True, show=shown.append), "many").ensure(plan, Undo())
    policy = json.loads(shown[-1].partition("--cli-input-json '")[2].rstrip("'"))
    ours = policy["TargetTrackingScalingPolicyConfiguration"]
    theirs = resources()["ScalingPolicy"]["TargetTrackingScalingPolicyConfiguration"]
    assert {**theirs, "TargetValue": 600} == ours


def test_the_role_of_the_template_has_the_rights_of_the_policy() -> None:
    (inline,) = resources()["Role"]["Policies"]
    rights: set[str] = set()
    for statement in inline["PolicyDocument"]["Statement"]:
        given = statement["Action"]
        rights |= {given} if isinstance(given, str) else set(given)
    assert rights == actions(ROOT / "deploy" / "iam" / "execution-role.json")


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_right_is_one_that_there_is(path: Path) -> None:
    session = botocore.session.get_session()
    for action in actions(path) - OTHER_RIGHTS:
        service, _, operation = action.partition(":")
        names = session.get_service_model(service).operation_names
        if action == "sagemaker:InvokeEndpoint":
            names = session.get_service_model("sagemaker-runtime").operation_names
        assert operation in names, action


def test_no_right_is_given_that_no_call_uses(aws: Aws) -> None:
    used = {"InvokeEndpoint", "CreateServiceLinkedRole", *OF_A_PUSH}
    for path in (ROOT / "modelyard" / "deploy").glob("*.py"):
        text = path.read_text()
        used |= {
            operation
            for action in DEPLOYER - OTHER_RIGHTS
            if f'"{_snake(operation := action.partition(":")[2])}"' in text
        }
    # Tags are given with what bears them.
    used.add("AddTags")
    given = {each.partition(":")[2] for each in DEPLOYER}
    assert given - used == {"PassRole", "ListBucket"}


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
