"""Somebody who uses an endpoint: boto3, archives, GET /status, and a look at what runs."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.endpoint.containers import running

T = TypeVar("T")

MODELS = Path(__file__).parents[1] / "models"
ROLE = "arn:aws:iam::000000000000:role/any"
SESSION = boto3.Session(
    aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
)
WAIT_SECONDS = 60.0


def until(what: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """What it returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: last {found!r}"
        time.sleep(0.02)
    return found


def processes_of(directory: Path) -> list[int]:
    """Processes, other than ours, that have the directory in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(directory) + b"/" in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:  # it is gone, or somebody else's
            continue
    return [pid for pid in found if pid != os.getpid()]


def _url(pid: int) -> str:
    """Where an instance listens."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    (port,) = [v.partition("=")[2] for v in variables if v.startswith("SAGEMAKER_BIND_TO_PORT=")]
    return f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class Reply:
    """An answer to an invoke."""

    text: str
    variant: str

    @property
    def json(self) -> Any:
        """A stub's echo: model, says, body, pid."""
        return json.loads(self.text)


class User:
    """Somebody with boto3 and the endpoint's URL; archives are in a folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models = directory / "models"
        self.models.mkdir(exist_ok=True)
        self._numbers = itertools.count()
        self._clients: list[Any] = []

    def connect(self, url: str) -> None:
        """Speak to the endpoint there from now on."""
        self.url = url
        self.sagemaker = self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime")

    def client(self, service: str, **options: Any) -> Any:
        """One that tries once."""
        options = {"endpoint_url": self.url, **options}
        config = Config(retries={"total_max_attempts": 1}, read_timeout=70, max_pool_connections=64)
        client = SESSION.client(service, config=config, **options)
        self._clients.append(client)
        return client

    def disconnect(self) -> None:
        """Close all connections."""
        while self._clients:
            self._clients.pop().close()

    # --- models, configurations -----------------------------------------------------------------

    def add(self, target: str, *, model: str = "", says: str = "", to: str = "models") -> None:
        """Put an archive into a folder: of tests/models, or one that a stub knows by ``says``."""
        path = self.directory / to / target
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            if model:
                archive.add(MODELS / model, ".")
            else:
                info = tarfile.TarInfo("says")
                info.size = len(says.encode())
                archive.addfile(info, io.BytesIO(says.encode()))

    def variant(
        self,
        name: str = "v",
        *,
        instances: int = 1,
        weight: float = 1.0,
        mode: str = "MultiModel",
        data: str | None = None,
        variables: Mapping[str, str] | None = None,
        keeps: bool = True,
        **others: Any,
    ) -> dict[str, Any]:
        """A ProductionVariant with a model of its own; ``variables`` are the container's.

        Without ``keeps`` its ModelCacheSetting is Disabled.
        """
        model = f"model-{next(self._numbers)}"
        default = f"file://{self.models}/" if mode == "MultiModel" else ""
        container: dict[str, Any] = {
            "Image": "any", "Mode": mode, "Environment": dict(variables or {})
        }  # fmt: skip
        if not keeps:
            container["MultiModelConfig"] = {"ModelCacheSetting": "Disabled"}
        if url := default if data is None else data:
            container["ModelDataUrl"] = url
        self.sagemaker.create_model(
            ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container
        )
        return {
            "VariantName": name,
            "ModelName": model,
            "InitialInstanceCount": instances,
            "InitialVariantWeight": weight,
            "InstanceType": "ml.m5.large",
            **others,
        }

    def config(self, *variants: Mapping[str, Any]) -> str:
        """The name of a new configuration."""
        name = f"config-{next(self._numbers)}"
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[*variants] or [self.variant()]
        )
        return name

    # --- endpoints ------------------------------------------------------------------------------

    def create(self, *variants: Mapping[str, Any], name: str = "ep") -> None:
        """Have an endpoint made."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=self.config(*variants))

    def endpoint(self, *variants: Mapping[str, Any], name: str = "ep") -> None:
        """Make an endpoint; returns when it serves."""
        self.create(*variants, name=name)
        self.wait("endpoint_in_service", name)

    def update(self, *variants: Mapping[str, Any], name: str = "ep") -> None:
        """Bring an endpoint to other variants; returns when that is done."""
        self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=self.config(*variants))
        self.wait("endpoint_in_service", name)

    def change(self, *desired: tuple[str, Mapping[str, Any]], name: str = "ep") -> None:
        """Change weights and counts, without waiting."""
        self.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[
                {"VariantName": variant, **wanted} for variant, wanted in desired
            ],
        )

    def resize(self, count: int, name: str = "ep") -> None:
        """Change the number of instances of variant v; returns when that is done."""
        self.change(("v", {"DesiredInstanceCount": count}), name=name)
        self.wait("endpoint_in_service", name)

    def delete(self, name: str = "ep") -> None:
        """Delete an endpoint; returns when it is gone."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.wait("endpoint_deleted", name)

    def wait(self, waiter: str, name: str = "ep") -> None:
        """Use one of boto3's waiters, with less patience."""
        self.sagemaker.get_waiter(waiter).wait(
            EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600}
        )

    def describe(self, name: str = "ep") -> Any:
        """DescribeEndpoint."""
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def status(self, name: str = "ep") -> str:
        """EndpointStatus; "" if there is none of that name."""
        try:
            return str(self.describe(name)["EndpointStatus"])
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ValidationException", error
            return ""

    def invoke(
        self, target: str | None = "m.tar.gz", body: str = "", name: str = "ep", **others: Any
    ) -> Reply:
        """InvokeEndpoint."""
        targeted = {} if target is None else {"TargetModel": target}
        answer = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body.encode(), ContentType="text/plain", **targeted, **others
        )
        return Reply(answer["Body"].read().decode(), answer["InvokedProductionVariant"])

    def code(self, call: Callable[[], object]) -> tuple[str, str]:
        """Code and message of the error that it ends with."""
        try:
            call()
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise AssertionError("it worked")

    # --- what runs ------------------------------------------------------------------------------

    def seen(self) -> Any:
        """GET /status, with all that is on the disks."""
        return httpx.get(f"{self.url}/status?disk=1", trust_env=False, verify=False).json()

    def instances(self, name: str = "ep") -> list[Any]:
        """Those of all variants of an endpoint, as GET /status has them."""
        (found,) = [one for one in self.seen()["endpoints"] if one["name"] == name]
        return [one for variant in found["variants"] for one in variant["instances"]]

    def loaded(self, target: str = "m.tar.gz") -> list[str]:
        """On which instances a model is in memory."""
        return [
            instance["id"]
            for instance in self.instances()
            for model in instance.get("models", [])
            if model["target"] == target and model["state"] == "loaded"
        ]

    def events(self, kind: str) -> list[Any]:
        """The events of a kind, oldest first."""
        return [event for event in self.seen()["events"] if event["kind"] == kind]

    def processes(self) -> list[int]:
        """All processes of instances."""
        return processes_of(self.directory)

    def check_nothing_runs(self) -> None:
        """At the end; what does is killed, so that it is in nobody's way."""
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left

    def containers(self, but: Iterable[int] = ()) -> list[running.Stub]:
        """The stub containers of all processes but some, whatever they are for."""
        return [running.at(_url(pid)) for pid in self.processes() if pid not in but]

    def stubs(self, name: str = "ep") -> list[running.Stub]:
        """The stub containers, for orders."""
        return [running.at(one["url"]) for one in self.instances(name)]
