"""All that an application and its operator say to the endpoint: boto3, as it is written for AWS.

Nothing here knows where the endpoint is. boto3 takes that from the environment, from the lines
that ``modelyard up`` prints; without them the same code talks to AWS, where ``IMAGE`` and ``ROLE``
would be your own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

IMAGE = "modelyard"
ROLE = "arn:aws:iam::000000000000:role/modelyard"

# None is sent twice: the demo counts those that fail. An application leaves boto3 its retries.
_ONCE = Config(retries={"total_max_attempts": 1}, max_pool_connections=50, read_timeout=90)


class Bucket:
    """A bucket of model archives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._s3 = boto3.client("s3")
        self._s3.create_bucket(Bucket=name)

    @property
    def url(self) -> str:
        """The prefix of all archives; a ``TargetModel`` is what comes after it."""
        return f"s3://{self.name}/"

    def upload(self, archive: Path) -> None:
        """From now on, the endpoint has this model."""
        self._s3.upload_file(str(archive), self.name, archive.name)

    def delete(self, target_model: str) -> None:
        """From now on, or some seconds later, it has not."""
        self._s3.delete_object(Bucket=self.name, Key=target_model)


@dataclass(frozen=True)
class Deployment:
    """What is to run: how many instances, of what, for the models of which prefix."""

    name: str
    models_url: str
    instances: int
    environment: dict[str, str] = field(default_factory=dict)


class Endpoint:
    """One endpoint for all models of a bucket. Its methods raise ClientError; threads share it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._sagemaker = boto3.client("sagemaker")
        self._runtime = boto3.client("sagemaker-runtime", config=_ONCE)

    def create(self, deployment: Deployment) -> None:
        """Return when it is in service."""
        self._define(deployment)
        self._sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=deployment.name)
        self._wait_until_in_service()

    def update(self, deployment: Deployment) -> None:
        """Replace its instances; requests go on meanwhile."""
        self._define(deployment)
        self._sagemaker.update_endpoint(EndpointName=self.name, EndpointConfigName=deployment.name)
        self._wait_until_in_service()

    def delete(self) -> None:
        """Return when it is gone, with its instances."""
        self._sagemaker.delete_endpoint(EndpointName=self.name)
        self._wait("endpoint_deleted")

    def invoke(self, target_model: str, body: bytes, content_type: str) -> bytes:
        """What the model answers."""
        answer = self._runtime.invoke_endpoint(
            EndpointName=self.name,
            TargetModel=target_model,
            ContentType=content_type,
            Accept="application/json",
            Body=body,
        )
        content: bytes = answer["Body"].read()
        return content

    def _define(self, deployment: Deployment) -> None:
        self._sagemaker.create_model(
            ModelName=deployment.name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "Mode": "MultiModel",
                "ModelDataUrl": deployment.models_url,
                "Environment": deployment.environment,
            },
        )
        self._sagemaker.create_endpoint_config(
            EndpointConfigName=deployment.name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": deployment.name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": deployment.instances,
                }
            ],
        )

    def _wait_until_in_service(self) -> None:
        self._wait("endpoint_in_service")

    def _wait(self, waiter: str) -> None:
        patience = {"Delay": 1, "MaxAttempts": 120}
        self._sagemaker.get_waiter(waiter).wait(EndpointName=self.name, WaiterConfig=patience)


def told(error: ClientError) -> str:
    """The kind of an error and what the endpoint says in it."""
    found = error.response["Error"]
    return f"{found['Code']}: {found['Message']}"
