"""A deployment from the first call to the last, on an endpoint that does what SageMaker does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import BUCKET, MODELS, Aws
from tests.endpoint.yard import Yard

SCALED = ("--instances", "1", "--max-instances", "3", "--invocations-per-minute", "600")
TOPIC = "arn:aws:sns:us-east-1:123456789012:on-call"


@pytest.fixture
def local(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The account with SageMaker by our endpoint, and with a model in its bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Yard(tmp_path, s3_url=aws.url) as yard:
        yard.add("m.tar.gz", says="hello")
        aws.client("s3").upload_file(str(yard.models / "m.tar.gz"), BUCKET, "models/m.tar.gz")
        yield Aws(aws.url, {"SAGEMAKER": yard.url, "SAGEMAKER_RUNTIME": yard.url})


def described(aws: Aws, name: str = "many") -> dict[str, Any]:
    found: dict[str, Any] = aws.client("sagemaker").describe_endpoint(EndpointName=name)
    return found


def target(aws: Aws) -> list[dict[str, Any]]:
    client = aws.client("application-autoscaling")
    found: list[dict[str, Any]] = client.describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    return found


def alarms(aws: Aws) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return found


def test_it_is_made_serves_is_changed_and_removed(local: Aws) -> None:
    made = local.deploy("--invoke", "m.tar.gz", "--data", "x")
    assert made.returncode == 0, made.stderr
    assert '"says": "hello"' in made.stdout
    first = described(local)
    assert first["EndpointStatus"] == "InService"

    again = local.deploy()
    assert again.returncode == 0, again.stderr
    assert again.stderr == "endpoint many is in service\n"
    assert described(local)["LastModifiedTime"] == first["LastModifiedTime"]

    more = local.deploy("--instances", "2")
    assert more.returncode == 0, more.stderr
    now = described(local)
    assert now["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert now["EndpointConfigName"] == first["EndpointConfigName"]

    other = local.deploy("--instances", "2", "--environment", "A=B", "--no-model-cache")
    assert other.returncode == 0, other.stderr
    assert described(local)["EndpointConfigName"] != first["EndpointConfigName"]
    model, config = local.parts()
    found = local.client("sagemaker").describe_model(ModelName=model)["PrimaryContainer"]
    assert found["Environment"] == {"A": "B"}
    assert found["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    assert found["ModelDataUrl"] == MODELS
    assert config == described(local)["EndpointConfigName"]

    gone = local.undeploy()
    assert gone.returncode == 0, gone.stderr
    assert local.endpoints() == [] and local.parts() == []
    assert "there is nothing of an endpoint many" in local.undeploy().stderr


@pytest.mark.slow
def test_it_scales_and_tells_of_trouble_as_long_as_that_is_asked_for(local: Aws) -> None:
    made = local.deploy(*SCALED, "--alarms", TOPIC)
    assert made.returncode == 0, made.stderr
    (found,) = target(local)
    assert (found["MinCapacity"], found["MaxCapacity"]) == (1, 3)
    assert found["ResourceId"] == "endpoint/many/variant/AllTraffic"
    client = local.client("application-autoscaling")
    (policy,) = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 600
    assert {each["MetricName"] for each in alarms(local)} == {
        *("Invocation5XXErrors", "ModelLatency", "ModelLoadingWaitTime", "ModelCacheHit")
    }
    assert all(each["AlarmActions"] == [TOPIC] for each in alarms(local))

    assert local.deploy(*SCALED, "--alarms", TOPIC).stderr == "endpoint many is in service\n"
    assert local.deploy(*SCALED[:3], "5", *SCALED[4:], "--alarms").returncode == 0
    (found,) = target(local)
    assert found["MaxCapacity"] == 5
    assert all(each["AlarmActions"] == [] for each in alarms(local))

    assert local.deploy().returncode == 0
    assert target(local) == [] and alarms(local) == []

    assert local.deploy(*SCALED, "--alarms").returncode == 0
    assert local.undeploy().returncode == 0
    assert target(local) == [] and alarms(local) == [] and local.endpoints() == []


@pytest.mark.slow
def test_autoscaling_keeps_its_number_of_instances_through_an_update(local: Aws) -> None:
    assert local.deploy(*SCALED).returncode == 0
    client = local.client("sagemaker")
    wanted = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    client.update_endpoint_weights_and_capacities(
        EndpointName="many", DesiredWeightsAndCapacities=[wanted]
    )
    client.get_waiter("endpoint_in_service").wait(
        EndpointName="many", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    changed = local.deploy(*SCALED, "--environment", "A=B")
    assert changed.returncode == 0, changed.stderr
    assert described(local)["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert local.undeploy().returncode == 0


@pytest.mark.slow
def test_an_endpoint_of_somebody_else_is_left_as_it_is(local: Aws) -> None:
    assert local.deploy(name="theirs").returncode == 0
    client = local.client("sagemaker")
    arn = described(local, "theirs")["EndpointArn"]
    client.delete_tags(ResourceArn=arn, TagKeys=["modelyard:endpoint"])
    for done in (local.deploy("--instances", "2", name="theirs"), local.undeploy(name="theirs")):
        assert done.returncode == 2
        assert "there is an endpoint theirs that `modelyard deploy` has not made" in done.stderr
    assert described(local, "theirs")["ProductionVariants"][0]["CurrentInstanceCount"] == 1


def test_a_model_that_is_not_there_is_told_and_the_endpoint_stays(local: Aws) -> None:
    done = local.deploy("--invoke", "none.tar.gz", "--data", "x")
    assert done.returncode == 1
    assert "many is in service, but ValidationError: Failed to download model data" in done.stderr
    assert local.endpoints() == ["many"]


def test_an_endpoint_that_does_not_start_is_taken_back(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Yard(tmp_path, s3_url=aws.url, local_command="false") as yard:
        local = Aws(aws.url, {"SAGEMAKER": yard.url, "SAGEMAKER_RUNTIME": yard.url})
        done = local.deploy("--alarms")
        assert done.returncode == 1
        assert "endpoint many is Failed: " in done.stderr
        assert "aws logs tail /aws/sagemaker/Endpoints/many" in done.stderr
        assert local.endpoints() == [] and local.parts() == []
        assert alarms(local) == []


@pytest.mark.slow
def test_an_update_that_does_not_start_leaves_what_was(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Yard(tmp_path, s3_url=aws.url) as yard:
        local = Aws(aws.url, {"SAGEMAKER": yard.url, "SAGEMAKER_RUNTIME": yard.url})
        assert local.deploy().returncode == 0
        before = local.parts()
        done = local.deploy("--environment", "STUB_EXITS=3")
        assert done.returncode == 1, done.stderr
        assert "rolled back" in done.stderr
        assert local.parts() == before
        assert described(local)["EndpointStatus"] == "InService"
        assert local.undeploy().returncode == 0
