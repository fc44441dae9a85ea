"""Models, by boto3; every answer is checked against the service's shapes on the way (shapes.py)."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint.specs import Mode
from tests.endpoint.api.requests import ARN, ROLE, container, model, refused
from tests.endpoint.api.running import RunningApi

VPC = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}


def test_a_model_is_described_as_it_was_made(sagemaker: Any) -> None:
    primary = container(
        Environment={"A": "b"},
        ContainerHostname="main",
        MultiModelConfig={"ModelCacheSetting": "Disabled"},
    )
    request = model("My-model", PrimaryContainer=primary, VpcConfig=VPC)
    created = sagemaker.create_model(**request, Tags=[{"Key": "k", "Value": "v"}])
    assert created["ModelArn"] == f"{ARN}model/My-model"
    shown = sagemaker.describe_model(ModelName="My-model")
    age = datetime.now(UTC) - shown.pop("CreationTime")
    assert 0 <= age.total_seconds() < 60
    del shown["ResponseMetadata"]
    assert shown == {
        "ModelName": "My-model",
        "ModelArn": f"{ARN}model/My-model",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": primary,
        "VpcConfig": VPC,
        "EnableNetworkIsolation": False,
    }


def test_one_container_in_a_list_is_as_good(api: RunningApi, sagemaker: Any) -> None:
    request = model(Containers=[{"Image": "i", "ModelDataUrl": "file:///models/m.tar.gz"}])
    del request["PrimaryContainer"]
    sagemaker.create_model(**request)
    (shown,) = sagemaker.describe_model(ModelName="m")["Containers"]
    assert shown == {
        "Image": "i",
        "ModelDataUrl": "file:///models/m.tar.gz",
        "Mode": "SingleModel",
    }
    assert api.backend.checked[0].mode is Mode.SINGLE


def test_structures_that_hold_nothing_are_not_shown(sagemaker: Any) -> None:
    sagemaker.create_model(**model(PrimaryContainer=container(MultiModelConfig={}, Environment={})))
    shown = sagemaker.describe_model(ModelName="m")
    assert shown["PrimaryContainer"] == container()


def test_a_deleted_model_is_gone(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    sagemaker.delete_model(ModelName="m")
    gone = f'Could not find model "{ARN}model/m".'
    assert refused(sagemaker, "describe_model", ModelName="m") == gone
    assert refused(sagemaker, "delete_model", ModelName="m") == gone
    sagemaker.create_model(**model())


def test_a_name_can_be_had_once(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    assert refused(sagemaker, "create_model", **model()) == (
        f'Cannot create already existing model "{ARN}model/m".'
    )


def test_of_two_at_once_one_wins(api: RunningApi, sagemaker: Any) -> None:
    async def create_both() -> tuple[Any, Any]:
        create = api.server._control_plane._operations["CreateModel"]
        return await asyncio.gather(create(model()), create(model()), return_exceptions=True)

    created, refusal = asyncio.run_coroutine_threadsafe(create_both(), api.loop).result(60)
    assert created == {"ModelArn": f"{ARN}model/m"}
    assert "already existing" in str(refusal)


def test_an_image_that_cannot_serve_is_no_model(sagemaker: Any) -> None:
    request = model(PrimaryContainer=container(Image="missing"))
    assert refused(sagemaker, "create_model", **request) == "There is no image missing."
    assert sagemaker.list_models()["Models"] == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Containers": [container()]}, "Give either PrimaryContainer or Containers."),
        ({"PrimaryContainer": {"Mode": "MultiModel"}}, "The container needs an Image."),
        ({"PrimaryContainer": {"Image": "i", "Mode": "MultiModel"}}, "needs ModelDataUrl"),
        (
            {"PrimaryContainer": container(ModelDataUrl="https://b/models/")},
            "must begin with s3:// or file:///.",
        ),
        ({"PrimaryContainer": {"ModelPackageName": "p"}}, "ModelPackageName is not supported"),
        (
            {
                "PrimaryContainer": container(
                    ModelDataSource={
                        "S3DataSource": {
                            "S3Uri": "s3://b/models/",
                            "S3DataType": "S3Prefix",
                            "CompressionType": "None",
                        }
                    }
                )
            },
            "ModelDataSource is not supported",
        ),
        ({"InferenceExecutionConfig": {"Mode": "Direct"}}, "Mode Direct is not supported"),
    ],
)
def test_what_cannot_be_served_is_refused(
    sagemaker: Any, members: dict[str, Any], message: str
) -> None:
    assert message in refused(sagemaker, "create_model", **model(**members))


def test_pipelines_are_refused(sagemaker: Any) -> None:
    request = model(Containers=[container(), container()])
    del request["PrimaryContainer"]
    assert "pipelines are not supported" in refused(sagemaker, "create_model", **request)
    del request["Containers"]
    message = "Give either PrimaryContainer or Containers."
    assert refused(sagemaker, "create_model", **request) == message


def test_many_clients_at_once_all_get_theirs(api: RunningApi, sagemaker: Any) -> None:
    names = [f"m-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: sagemaker.create_model(**model(name)), names))
    pages = sagemaker.get_paginator("list_models").paginate()
    assert {shown["ModelName"] for page in pages for shown in page["Models"]} == set(names)


def test_other_operations_of_the_service_are_named(sagemaker: Any) -> None:
    with pytest.raises(ClientError, match="ListTrainingJobs is not supported here") as raised:
        sagemaker.list_training_jobs()
    assert raised.value.response["Error"]["Code"] == "UnknownOperationException"
