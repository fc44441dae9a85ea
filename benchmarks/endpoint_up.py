"""``modelyard up`` under test, with the S3 that it brings along, and boto3 to speak to both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from benchmarks.bench import Bench
from benchmarks.processes import ProcessTree
from benchmarks.servers import BenchmarkError
from modelyard import aws
from modelyard.address import S3_VARIABLE
from modelyard.data_dir import DataDir

NAME = "bench"
BUCKET = "bench"
START_SECONDS = 120.0
STOP_SECONDS = 90.0
PATIENCE_SECONDS = 90.0
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
_NO_EVENTS = 10**12


@dataclass(frozen=True)
class Asked:
    """A model below the endpoint's prefix, and one request that it answers."""

    target: str
    body: bytes
    content_type: str


def in_service(
    url: str, prefix: str, environment: Mapping[str, str], *, instances: int = 1
) -> None:
    """Make an endpoint of the models below a prefix; back when it is in service.

    ``environment`` is of its containers.
    """
    client = aws.client("sagemaker", url, patience_seconds=PATIENCE_SECONDS)
    container = {
        "Image": "modelyard",
        "Mode": "MultiModel",
        "ModelDataUrl": prefix,
        "Environment": environment,
    }
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": NAME,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": instances,
    }
    role = "arn:aws:iam::000000000000:role/bench"
    client.create_model(ModelName=NAME, ExecutionRoleArn=role, PrimaryContainer=container)
    client.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    often = {"Delay": 1, "MaxAttempts": int(START_SECONDS)}
    waiter = client.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=NAME, WaiterConfig=often)


class Endpoint:
    """One start of it, as a user starts it. On leaving the ``with`` block nothing of it is left."""

    def __init__(
        self,
        bench: Bench,
        settings: Mapping[str, str] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``settings`` are of the endpoint, ``environment`` is of its containers."""
        directory = bench.scratch("endpoint")
        self._data = DataDir(str(directory / "data"))
        self._environment = {
            "MODELYARD_ENVIRONMENTS_DIR": str(directory / "environments"),
            "MODELYARD_LEARNED_SIZES_FILE": "",
            **(environment or {}),
        }
        told = os.environ | aws.KEYS | {"OMP_NUM_THREADS": "1", "TMPDIR": str(directory)}
        told.pop(S3_VARIABLE, None)
        options = {"port": "0", "data-dir": str(self._data.path), **(settings or {})}
        self._run("up", "--detach", *(f"--{name}={value}" for name, value in options.items()),
                  environment=told)  # fmt: skip
        running = self._data.running()
        if running is None:
            raise BenchmarkError("modelyard up: it is gone already")
        self.url = running.url
        self.s3_url = running.s3
        self.tree = ProcessTree(running.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.alive()
        try:
            self._run("down", f"--data-dir={self._data.path}", environment=os.environ)
        finally:
            self.tree.kill()

    @cached_property
    def s3(self) -> Any:
        """boto3's client of the S3."""
        client = aws.client("s3", self.s3_url, patience_seconds=PATIENCE_SECONDS)
        client.create_bucket(Bucket=BUCKET)
        return client

    @cached_property
    def runtime(self) -> Any:
        """boto3's client that invokes; what fails is not tried again."""
        return aws.client("sagemaker-runtime", self.url, patience_seconds=PATIENCE_SECONDS)

    def serve(self, prefix: str = f"s3://{BUCKET}/", *, instances: int = 1) -> None:
        """Make an endpoint of the models below a prefix; back when it is in service."""
        in_service(self.url, prefix, self._environment, instances=instances)

    def put(self, target: str, archive: Path) -> None:
        """Put an archive into the bucket."""
        self.s3.upload_file(str(archive), BUCKET, target)

    def invoke(self, asked: Asked) -> bytes:
        """What boto3 gets. Raises what boto3 raises."""
        answer = self.runtime.invoke_endpoint(
            EndpointName=NAME,
            TargetModel=asked.target,
            Body=asked.body,
            ContentType=asked.content_type,
        )
        content: bytes = answer["Body"].read()
        return content

    def status(self, since: int = 0) -> Any:
        """GET /status."""
        with urllib.request.urlopen(f"{self.url}/status?since={since}", timeout=30) as answer:
            return json.load(answer)

    def instances(self) -> list[Any]:
        """The instances, as GET /status describes them."""
        (endpoint,) = self.status(since=_NO_EVENTS)["endpoints"]
        (variant,) = endpoint["variants"]
        found: list[Any] = variant["instances"]
        return found

    def events(self, kind: str) -> list[Any]:
        """What happened, of one kind, as long as it is remembered."""
        return [event for event in self.status()["events"] if event["kind"] == kind]

    def _run(self, command: str, *options: str, environment: Mapping[str, str]) -> None:
        done = subprocess.run(
            [Path(sys.executable).with_name("modelyard"), command, *options],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS + STOP_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"modelyard {command}: {done.stderr[-2000:]}")
