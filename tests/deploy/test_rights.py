"""Somebody with the rights of deployer.json deploys; with one less nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Aws
from tests.deploy.rights import DEPLOYER, grant, look_at_rights
from tests.endpoint.yard import Yard

ALL = ("--max-instances", "3", "--invocations-per-minute", "60", "--alarms")


@pytest.fixture
def deployer(aws: Aws) -> Iterator[Aws]:
    """Somebody with the rights of deployer.json."""
    iam = aws.client("iam")
    iam.create_user(UserName="deployer")
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    try:
        grant(aws, DEPLOYER)
        yield Aws(aws.url, key=key["AccessKeyId"], secret=key["SecretAccessKey"])
    finally:
        look_at_rights(aws, False)


def test_a_deployer_needs_no_other_rights(deployer: Aws) -> None:
    made = deployer.deploy(*ALL)
    assert made.returncode == 0, made.stderr
    gone = deployer.undeploy()
    assert gone.returncode == 0, gone.stderr


@pytest.mark.parametrize(
    "missing",
    [
        *("sagemaker:CreateEndpointConfig", "sagemaker:CreateEndpoint"),
        "application-autoscaling:PutScalingPolicy",
    ],
)
def test_a_right_that_is_missing_is_told_and_nothing_stays(
    aws: Aws, deployer: Aws, missing: str
) -> None:
    grant(aws, DEPLOYER - {missing})
    done = deployer.deploy(*ALL)
    assert done.returncode == 1
    assert "deploy/iam/deployer.json has the rights" in done.stderr, done.stderr
    look_at_rights(aws, False)
    assert aws.endpoints() == [] and aws.parts() == []
    autoscaling = aws.client("application-autoscaling")
    assert not autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert not aws.client("cloudwatch").describe_alarms()["MetricAlarms"]


@pytest.mark.slow
def test_what_comes_after_an_update_may_fail_and_the_update_stays(
    aws: Aws, deployer: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", deployer.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", deployer.secret)
    with Yard(tmp_path, s3_url=aws.url) as yard:
        here = Aws(aws.url, {"SAGEMAKER": yard.url}, key=deployer.key, secret=deployer.secret)
        assert here.deploy().returncode == 0
        grant(aws, DEPLOYER - {"application-autoscaling:PutScalingPolicy"})
        done = here.deploy("--environment", "A=B", *ALL)
        assert done.returncode == 1
        assert "not authorized to perform: application-autoscaling:PutScalingPolicy" in done.stderr
        model, _ = here.parts()
        found = here.client("sagemaker").describe_model(ModelName=model)["PrimaryContainer"]
        assert found["Environment"] == {"A": "B"}
        assert here.endpoints() == ["many"]
        grant(aws, DEPLOYER)
        assert here.deploy("--environment", "A=B", *ALL).returncode == 0
        assert here.undeploy().returncode == 0
