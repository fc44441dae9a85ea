"""AWS for a deployment: moto's, with SageMaker by our own endpoint where a test wants one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import pytest

from tests.aws import moto_server
from tests.modelyard.conftest import COMMAND, environment

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/serves"
BUCKET = "models-of-a-team"
MODELS = f"s3://{BUCKET}/models/"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/modelyard:one"

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Aws:
    """Where AWS is, and who we are in it."""

    url: str
    urls: Mapping[str, str] = field(default_factory=dict)  # of services that are elsewhere
    key: str = "key"
    secret: str = "secret"
    region: str = REGION

    def variables(self) -> dict[str, str]:
        """What tells boto3 so."""
        elsewhere = {f"AWS_ENDPOINT_URL_{name}": url for name, url in self.urls.items()}
        return {
            "AWS_ENDPOINT_URL": self.url,
            **elsewhere,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **options: Any) -> Any:
        """One that sees the same."""
        url = self.urls.get(service.replace("-", "_").upper(), self.url)
        keys = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        return boto3.client(
            service, **{"endpoint_url": url, "region_name": self.region, **keys, **options}
        )

    def run(self, *arguments: str, **variables: str) -> Done:
        """``modelyard`` there, to its end."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=environment(**{**self.variables(), **variables}),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def deploy(self, *options: str, name: str = "many", **variables: str) -> Done:
        """With what each deployment needs; later options win."""
        given = ("--models", MODELS, "--role", ROLE, "--image", IMAGE)
        return self.run("deploy", name, *given, *options, **variables)

    def undeploy(self, *options: str, name: str = "many") -> Done:
        """Remove it."""
        return self.run("undeploy", name, *options)

    def endpoints(self) -> list[str]:
        """Their names."""
        return [
            each["EndpointName"] for each in self.client("sagemaker").list_endpoints()["Endpoints"]
        ]

    def parts(self) -> list[str]:
        """Names of all models and configurations."""
        client = self.client("sagemaker")
        return [
            *(each["ModelName"] for each in client.list_models()["Models"]),
            *(
                each["EndpointConfigName"]
                for each in client.list_endpoint_configs()["EndpointConfigs"]
            ),
        ]


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Of a server for all tests here."""
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(moto_url: str) -> Aws:
    """An account with a bucket and an image."""
    httpx.post(f"{moto_url}/moto-api/reset").raise_for_status()
    made = Aws(moto_url)
    prepare(made)
    return made


def prepare(aws: Aws) -> None:
    """The bucket of the models and the repository with the image."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    ecr = aws.client("ecr")
    ecr.create_repository(repositoryName="modelyard")
    layer = {"digest": f"sha256:{'0' * 64}", "size": 1, "mediaType": "any"}
    manifest = {"schemaVersion": 2, "mediaType": "any", "config": layer, "layers": [layer]}
    ecr.put_image(repositoryName="modelyard", imageManifest=json.dumps(manifest), imageTag="one")


def said_lines(done: Done) -> list[str]:
    """What a dry run would call."""
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
