"""Endpoints, by boto3: their life, and what can be asked of them when."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from endpoint.records import EndpointStatus
from tests.endpoint.api.requests import ARN, config, model, refused, serving, variant
from tests.endpoint.api.running import RunningApi
from tests.endpoint.api.test_configs import CAPTURE

AT_ONCE = {"Delay": 0, "MaxAttempts": 200}
EP_ARN = f"{ARN}endpoint/ep"
IN_PROGRESS = f'Cannot update in-progress endpoint "{EP_ARN}".'
ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 0,
    }
}


def wait(sagemaker: Any, waiter: str) -> None:
    sagemaker.get_waiter(waiter).wait(EndpointName="ep", WaiterConfig=AT_ONCE)


def described(sagemaker: Any) -> dict[str, Any]:
    shown: dict[str, Any] = sagemaker.describe_endpoint(EndpointName="ep")
    return shown


def test_an_endpoint_is_created_described_and_deleted(sagemaker: Any) -> None:
    serving(sagemaker)
    wait(sagemaker, "endpoint_in_service")
    shown = described(sagemaker)
    assert shown["EndpointArn"] == EP_ARN
    assert shown["EndpointConfigName"] == "c"
    assert shown["EndpointStatus"] == "InService"
    (deployed,) = shown["ProductionVariants"]
    (image,) = deployed.pop("DeployedImages")
    assert (image["SpecifiedImage"], image["ResolvedImage"]) == ("image", "image")
    assert deployed == {
        "VariantName": "AllTraffic",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 1,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    sagemaker.delete_endpoint(EndpointName="ep")
    wait(sagemaker, "endpoint_deleted")
    gone = f'Could not find endpoint "{EP_ARN}".'
    assert refused(sagemaker, "describe_endpoint", EndpointName="ep") == gone
    assert refused(sagemaker, "delete_endpoint", EndpointName="ep") == gone


def test_what_is_not_there_yet_is_not_shown(api: RunningApi, sagemaker: Any) -> None:
    api.backend.hold = True
    serving(sagemaker)
    shown = described(sagemaker)
    assert shown["EndpointStatus"] == "Creating"
    assert not {"ProductionVariants", "FailureReason", "DataCaptureConfig"} & set(shown)
    assert not {"LastDeploymentConfig", "PendingDeploymentSummary"} & set(shown)


def test_a_failed_endpoint_says_why_and_can_only_be_deleted(
    api: RunningApi, sagemaker: Any
) -> None:
    serving(sagemaker)
    reason = "The primary container did not pass the ping health check. " * 50
    api.call(lambda: api.backend._put("ep", status=EndpointStatus.FAILED, failure=reason))
    with pytest.raises(WaiterError):
        wait(sagemaker, "endpoint_in_service")
    assert described(sagemaker)["FailureReason"] == reason[:1024]
    for request in (
        {"operation": "update_endpoint", "EndpointConfigName": "c"},
        {
            "operation": "update_endpoint_weights_and_capacities",
            "DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic"}],
        },
    ):
        assert "its status is Failed" in refused(sagemaker, **request, EndpointName="ep")
    sagemaker.delete_endpoint(EndpointName="ep")
    wait(sagemaker, "endpoint_deleted")


@pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack", "Deleting"])
def test_nothing_changes_while_something_changes(
    api: RunningApi, sagemaker: Any, status: str
) -> None:
    serving(sagemaker)
    api.call(lambda: api.backend._put("ep", status=status))
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 1.0}]
    update = {"EndpointName": "ep", "EndpointConfigName": "c"}
    assert refused(sagemaker, "update_endpoint", **update) == IN_PROGRESS
    operation = "update_endpoint_weights_and_capacities"
    request = {"EndpointName": "ep", "DesiredWeightsAndCapacities": weights}
    assert refused(sagemaker, operation, **request) == IN_PROGRESS
    assert refused(sagemaker, "delete_endpoint", EndpointName="ep") == IN_PROGRESS


def test_a_name_can_be_had_once_in_any_case(sagemaker: Any) -> None:
    serving(sagemaker)
    for name in ("ep", "EP"):
        request = {"EndpointName": name, "EndpointConfigName": "c"}
        assert refused(sagemaker, "create_endpoint", **request) == (
            f'Cannot create already existing endpoint "{EP_ARN}".'
        )


def test_its_configuration_and_models_must_be_there(sagemaker: Any) -> None:
    request = {"EndpointName": "ep", "EndpointConfigName": "c"}
    message = f'Could not find endpoint configuration "{ARN}endpoint-config/c".'
    assert refused(sagemaker, "create_endpoint", **request) == message
    sagemaker.create_model(**model())
    sagemaker.create_endpoint_config(**config())
    sagemaker.delete_model(ModelName="m")
    message = f'Could not find model "{ARN}model/m".'
    assert refused(sagemaker, "create_endpoint", **request) == message


def test_more_instances_than_there_can_be_are_a_limit(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    sagemaker.create_endpoint_config(
        **config(ProductionVariants=[variant(InitialInstanceCount=21)])
    )
    with pytest.raises(sagemaker.exceptions.ResourceLimitExceeded, match="20 instances at most"):
        sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_an_update_brings_another_configuration(api: RunningApi, sagemaker: Any) -> None:
    serving(sagemaker)
    changed = variant(InitialVariantWeight=2.0, InitialInstanceCount=3)
    sagemaker.create_endpoint_config(**config("c2", ProductionVariants=[changed]))
    answer = sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c2")
    assert answer["EndpointArn"] == EP_ARN
    wait(sagemaker, "endpoint_in_service")
    shown = described(sagemaker)
    assert shown["EndpointConfigName"] == "c2"
    assert shown["ProductionVariants"][0]["DesiredInstanceCount"] == 3
    assert shown["ProductionVariants"][0]["DesiredWeight"] == 2.0


def test_what_is_to_come_is_shown_while_it_comes(api: RunningApi, sagemaker: Any) -> None:
    serving(sagemaker)
    sagemaker.create_endpoint_config(**config("c2"))
    api.backend.hold = True
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c2")
    shown = described(sagemaker)
    assert shown["EndpointStatus"] == "Updating"
    assert shown["EndpointConfigName"] == "c"
    assert shown["PendingDeploymentSummary"]["EndpointConfigName"] == "c2"
    (status,) = shown["ProductionVariants"][0]["VariantStatus"]
    assert status["Status"] == "Updating"


def test_an_update_needs_what_it_names(sagemaker: Any) -> None:
    request = {"EndpointName": "ep", "EndpointConfigName": "c2"}
    assert refused(sagemaker, "update_endpoint", **request).startswith("Could not find endpoint ")
    serving(sagemaker)
    message = f'Could not find endpoint configuration "{ARN}endpoint-config/c2".'
    assert refused(sagemaker, "update_endpoint", **request) == message
    assert described(sagemaker)["EndpointStatus"] == "InService"


@pytest.mark.parametrize(
    ("excluded", "weight", "count"),
    [
        ([], 5.0, 4),
        (["DesiredWeight"], 2.0, 4),
        (["DesiredInstanceCount"], 5.0, 3),
        (["DesiredWeight", "DesiredInstanceCount", "DataCaptureConfig"], 2.0, 3),
    ],
)
def test_an_update_can_keep_weights_and_counts(
    sagemaker: Any, excluded: list[str], weight: float, count: int
) -> None:
    serving(sagemaker)
    desired = {"VariantName": "AllTraffic", "DesiredWeight": 5.0, "DesiredInstanceCount": 4}
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="ep", DesiredWeightsAndCapacities=[desired]
    )
    changed = variant(InitialVariantWeight=2.0, InitialInstanceCount=3)
    new = variant("New", InitialInstanceCount=2)
    sagemaker.create_endpoint_config(**config("c2", ProductionVariants=[changed, new]))
    sagemaker.update_endpoint(
        EndpointName="ep",
        EndpointConfigName="c2",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": name} for name in excluded],
    )
    shown = {v["VariantName"]: v for v in described(sagemaker)["ProductionVariants"]}
    assert shown["AllTraffic"]["DesiredWeight"] == weight
    assert shown["AllTraffic"]["DesiredInstanceCount"] == count
    assert shown["New"]["DesiredInstanceCount"] == 2


def test_weights_and_counts_change_one_by_one(sagemaker: Any) -> None:
    serving(sagemaker)
    for desired in ({"DesiredWeight": 0.5}, {"DesiredInstanceCount": 2}):
        answer = sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="ep",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", **desired}],
        )
        assert answer["EndpointArn"] == EP_ARN
        wait(sagemaker, "endpoint_in_service")
    (shown,) = described(sagemaker)["ProductionVariants"]
    assert (shown["DesiredWeight"], shown["DesiredInstanceCount"]) == (0.5, 2)


@pytest.mark.parametrize(
    ("desired", "message"),
    [
        ({"VariantName": "Other", "DesiredWeight": 1.0}, 'Could not find variant "Other"'),
        ({"VariantName": "AllTraffic", "DesiredInstanceCount": 0}, "must be 1 or more"),
        ({"VariantName": "AllTraffic", "DesiredWeight": 0.0}, "must have a weight above 0"),
        (
            {"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 1}},
            "ServerlessUpdateConfig is not supported",
        ),
    ],
)
def test_weights_and_counts_that_cannot_be_are_refused(
    sagemaker: Any, desired: dict[str, Any], message: str
) -> None:
    serving(sagemaker)
    operation = "update_endpoint_weights_and_capacities"
    request = {"EndpointName": "ep", "DesiredWeightsAndCapacities": [desired]}
    assert message in refused(sagemaker, operation, **request)
    assert described(sagemaker)["ProductionVariants"][0]["DesiredInstanceCount"] == 1


def test_too_many_instances_change_nothing(sagemaker: Any) -> None:
    serving(sagemaker)
    with pytest.raises(ClientError) as raised:
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="ep",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 21}],
        )
    assert raised.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    assert described(sagemaker)["EndpointStatus"] == "InService"


def test_what_is_stored_but_not_done_is_described(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    sagemaker.create_endpoint_config(**config(DataCaptureConfig=CAPTURE))
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c", DeploymentConfig=ROLLING)
    shown = described(sagemaker)
    assert shown["LastDeploymentConfig"] == ROLLING
    assert shown["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": 10,
        "DestinationS3Uri": "s3://b/k",
        "KmsKeyId": "",
    }
    update = {"EndpointName": "ep", "EndpointConfigName": "c"}
    sagemaker.update_endpoint(**update, RetainDeploymentConfig=True)
    wait(sagemaker, "endpoint_in_service")
    assert described(sagemaker)["LastDeploymentConfig"] == ROLLING
    sagemaker.update_endpoint(**update)
    wait(sagemaker, "endpoint_in_service")
    assert "LastDeploymentConfig" not in described(sagemaker)
    sagemaker.update_endpoint(**update, DeploymentConfig=ROLLING)
    wait(sagemaker, "endpoint_in_service")
    assert described(sagemaker)["LastDeploymentConfig"] == ROLLING


def test_an_endpoint_outlives_its_configuration_and_model(sagemaker: Any) -> None:
    serving(sagemaker)
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    sagemaker.delete_model(ModelName="m")
    assert described(sagemaker)["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName="ep")
    wait(sagemaker, "endpoint_deleted")
