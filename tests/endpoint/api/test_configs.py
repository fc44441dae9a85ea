"""Endpoint configurations, by boto3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.endpoint.api.requests import ARN, config, model, refused, variant

SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 10,
    "DestinationS3Uri": "s3://b/k",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


@pytest.fixture(autouse=True)
def models(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    sagemaker.create_model(**model("single", PrimaryContainer={"Image": "i"}))


def test_a_configuration_is_described_as_it_was_made(sagemaker: Any) -> None:
    blue = variant(
        "Blue",
        InitialVariantWeight=0.25,
        VolumeSizeInGB=20,
        ModelDataDownloadTimeoutInSeconds=100,
        ContainerStartupHealthCheckTimeoutInSeconds=200,
        RoutingConfig={"RoutingStrategy": "RANDOM"},
        ManagedInstanceScaling={"Status": "ENABLED", "MinInstanceCount": 1},
    )
    request = config(
        ProductionVariants=[blue, variant("Green")], DataCaptureConfig=CAPTURE, KmsKeyId="key"
    )
    created = sagemaker.create_endpoint_config(**request, Tags=[{"Key": "k", "Value": "v"}])
    assert created["EndpointConfigArn"] == f"{ARN}endpoint-config/c"
    shown = sagemaker.describe_endpoint_config(EndpointConfigName="c")
    assert shown.pop("EndpointConfigArn") == created["EndpointConfigArn"]
    assert shown.pop("EnableNetworkIsolation") is False
    del shown["CreationTime"], shown["ResponseMetadata"]
    request["ProductionVariants"][1]["InitialVariantWeight"] = 1.0
    assert shown == request


def test_structures_that_hold_nothing_are_not_shown(sagemaker: Any) -> None:
    request = config(MetricsConfig={}, ProductionVariants=[variant(ManagedInstanceScaling={})])
    sagemaker.create_endpoint_config(**request)
    shown = sagemaker.describe_endpoint_config(EndpointConfigName="c")
    assert "MetricsConfig" not in shown
    assert "ManagedInstanceScaling" not in shown["ProductionVariants"][0]


def test_a_deleted_configuration_is_gone(sagemaker: Any) -> None:
    sagemaker.create_endpoint_config(**config())
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    gone = f'Could not find endpoint configuration "{ARN}endpoint-config/c".'
    for operation in ("describe_endpoint_config", "delete_endpoint_config"):
        assert refused(sagemaker, operation, EndpointConfigName="c") == gone


def test_a_name_can_be_had_once(sagemaker: Any) -> None:
    sagemaker.create_endpoint_config(**config())
    assert refused(sagemaker, "create_endpoint_config", **config()) == (
        f'Cannot create already existing endpoint configuration "{ARN}endpoint-config/c".'
    )


def test_its_models_must_be_there(sagemaker: Any) -> None:
    request = config(ProductionVariants=[variant(ModelName="other")])
    message = refused(sagemaker, "create_endpoint_config", **request)
    assert message == f'Could not find model "{ARN}model/other".'


@pytest.mark.parametrize("instance_type", ["ml.p3.8xlarge", "ml.g5.12xlarge", "ml.inf2.xlarge"])
def test_many_models_do_not_go_on_several_gpus(sagemaker: Any, instance_type: str) -> None:
    request = config(ProductionVariants=[variant(InstanceType=instance_type)])
    message = f"MultiModel mode is not supported for instance type {instance_type}."
    assert refused(sagemaker, "create_endpoint_config", **request) == message
    alone = variant(InstanceType=instance_type, ModelName="single")
    sagemaker.create_endpoint_config(**config(ProductionVariants=[alone]))


@pytest.mark.parametrize("instance_type", ["ml.g5.16xlarge", "ml.p3.2xlarge", "ml.c6i.32xlarge"])
def test_many_models_go_on_one_gpu_or_none(sagemaker: Any, instance_type: str) -> None:
    request = config(ProductionVariants=[variant(InstanceType=instance_type)])
    sagemaker.create_endpoint_config(**request)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ServerlessConfig": SERVERLESS}, "ServerlessConfig is not supported here (variant 'V')"),
        ({"AcceleratorType": "ml.eia2.medium"}, "AcceleratorType is not supported"),
        ({"RoutingConfig": {"RoutingStrategy": "KV_AWARE"}}, "KV_AWARE is not supported"),
        ({"InstancePools": [{"InstanceType": "ml.m5.xlarge", "Priority": 1}]}, "InstancePools is"),
        ({"InitialVariantWeight": 0.0}, "At least one variant must have a weight above 0."),
    ],
)
def test_variants_that_cannot_be_are_refused(
    sagemaker: Any, members: dict[str, Any], message: str
) -> None:
    request = config(ProductionVariants=[variant("V", **members)])
    assert message in refused(sagemaker, "create_endpoint_config", **request)


@pytest.mark.parametrize("member", ["ModelName", "InstanceType", "InitialInstanceCount"])
def test_a_variant_says_what_it_runs_and_where(sagemaker: Any, member: str) -> None:
    incomplete = variant()
    del incomplete[member]
    request = config(ProductionVariants=[incomplete])
    message = refused(sagemaker, "create_endpoint_config", **request)
    assert message.startswith(f"{member} is needed (variant 'AllTraffic')")


@pytest.mark.parametrize(
    "members",
    [
        {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/k"}}},
        {"ShadowProductionVariants": [variant("Shadow")]},
        {
            "ExplainerConfig": {
                "ClarifyExplainerConfig": {
                    "ShapConfig": {"ShapBaselineConfig": {"MimeType": "text/csv"}}
                }
            }
        },
    ],
)
def test_other_kinds_of_endpoints_are_refused(sagemaker: Any, members: dict[str, Any]) -> None:
    message = refused(sagemaker, "create_endpoint_config", **config(**members))
    assert message.startswith(f"{next(iter(members))} is not supported here:")


def test_variants_have_names_of_their_own(sagemaker: Any) -> None:
    request = config(ProductionVariants=[variant(), variant()])
    assert "'AllTraffic' is there twice" in refused(sagemaker, "create_endpoint_config", **request)
