"""The SageMaker SDKs take the endpoint for SageMaker: nothing but addresses is told to them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples.archives import pack
from tests.endpoint.yard import SERVE, Yard
from tests.environments import SAGEMAKER_2, SAGEMAKER_3, interpreter

PROGRAMS = Path(__file__).parent
SECONDS = 120


pytestmark = pytest.mark.usefixtures("aws_keys")


def said(program: str, python: str, directory: Path, s3_url: str, bucket: str) -> Any:
    """What a program of a user says in the end; the endpoint serves as long as it runs."""
    archive = directory / "iris.tar.gz"
    pack("iris_sklearn", archive)
    with Yard(directory, s3_url=s3_url, **SERVE) as yard:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_SAGEMAKER": yard.url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": yard.url,
            "AWS_ENDPOINT_URL_S3": s3_url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        done = subprocess.run(
            [python, str(PROGRAMS / program), str(archive), bucket],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_multi_data_model_of_sagemaker_2_deploys_adds_predicts_and_deletes(
    tmp_path: Path, s3_url: str
) -> None:
    python = interpreter(*SAGEMAKER_2)
    found = said("version_2.py", python, tmp_path, s3_url, "version-2")
    assert found == {"answer": ["setosa"], "listed": ["iris.tar.gz"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_resources_of_sagemaker_3_create_invoke_list_and_delete(
    tmp_path: Path, s3_url: str
) -> None:
    python = interpreter(*SAGEMAKER_3)
    found = said("version_3.py", python, tmp_path, s3_url, "version-3")
    assert found == {"answer": ["setosa"], "listed": ["sdk3"]}
