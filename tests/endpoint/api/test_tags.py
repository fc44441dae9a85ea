"""Tags, by boto3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.endpoint.api.requests import ARN, config, model, refused
from tests.endpoint.api.running import RunningApi

OF_MODEL, OF_CONFIG, OF_ENDPOINT = f"{ARN}model/m", f"{ARN}endpoint-config/c", f"{ARN}endpoint/ep"
FIRST = [{"Key": "team", "Value": "a"}]


@pytest.fixture(autouse=True)
def tagged(sagemaker: Any) -> None:
    sagemaker.create_model(**model(), Tags=FIRST)
    sagemaker.create_endpoint_config(**config(), Tags=FIRST)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c", Tags=FIRST)


@pytest.mark.parametrize("arn", [OF_MODEL, OF_CONFIG, OF_ENDPOINT])
def test_tags_are_listed_added_replaced_and_removed(sagemaker: Any, arn: str) -> None:
    def listed() -> dict[str, str]:
        tags = sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    assert listed() == {"team": "a"}
    new = [{"Key": "stage", "Value": ""}, {"Key": "team", "Value": "ü"}]
    answer = sagemaker.add_tags(ResourceArn=arn, Tags=new)
    assert sorted(tag["Key"] for tag in answer["Tags"]) == ["stage", "team"]
    assert listed() == {"team": "ü", "stage": ""}
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team", "unknown"])
    assert listed() == {"stage": ""}
    (page,) = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    assert page["Tags"] == [{"Key": "stage", "Value": ""}]


def test_an_update_keeps_the_tags(sagemaker: Any) -> None:
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="ep", WaiterConfig={"Delay": 0, "MaxAttempts": 100}
    )
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert sagemaker.list_tags(ResourceArn=OF_ENDPOINT)["Tags"] == FIRST


@pytest.mark.parametrize(
    ("arn", "message"),
    [
        (f"{ARN}endpoint/other", f'Could not find endpoint "{ARN}endpoint/other".'),
        (f"{ARN}training-job/t", "Could not find resource"),
        (OF_MODEL.replace("us-east-1", "eu-west-1"), "Could not find resource"),
        (OF_MODEL.replace("0" * 12, "1" * 12), "Could not find resource"),
    ],
)
def test_what_is_not_here_has_no_tags(sagemaker: Any, arn: str, message: str) -> None:
    assert message in refused(sagemaker, "list_tags", ResourceArn=arn)
    assert message in refused(sagemaker, "add_tags", ResourceArn=arn, Tags=FIRST)
    assert message in refused(sagemaker, "delete_tags", ResourceArn=arn, TagKeys=["team"])


def test_there_is_a_limit(api: RunningApi, sagemaker: Any) -> None:
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(50)]
    message = refused(sagemaker, "add_tags", ResourceArn=OF_MODEL, Tags=many)
    assert message == "A resource can have at most 50 tags, not 51."
    assert "Invalid NextToken" in refused(
        sagemaker, "list_tags", ResourceArn=OF_MODEL, NextToken="x"
    )
