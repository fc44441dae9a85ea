"""Requests that are right, for tests to spoil."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/models"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:"


def container(**members: Any) -> dict[str, Any]:
    """A multi-model ContainerDefinition."""
    return {"Image": "image", "Mode": "MultiModel", "ModelDataUrl": "s3://b/models/", **members}


def model(name: str = "m", **members: Any) -> dict[str, Any]:
    """For create_model."""
    return {
        "ModelName": name,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": container(),
        **members,
    }


def variant(name: str = "AllTraffic", **members: Any) -> dict[str, Any]:
    """A ProductionVariant."""
    return {
        "VariantName": name,
        "ModelName": "m",
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 1,
        **members,
    }


def config(name: str = "c", **members: Any) -> dict[str, Any]:
    """For create_endpoint_config."""
    return {"EndpointConfigName": name, "ProductionVariants": [variant()], **members}


def serving(sagemaker: Any, name: str = "ep") -> None:
    """Make an endpoint and all it needs."""
    sagemaker.create_model(**model())
    sagemaker.create_endpoint_config(**config())
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")


def refused(sagemaker: Any, operation: str, **request: Any) -> str:
    """The message of the ValidationException that a request gets."""
    with pytest.raises(ClientError) as raised:
        getattr(sagemaker, operation)(**request)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["Error"]["Code"] == "ValidationException"
    return str(answer["Error"]["Message"])
