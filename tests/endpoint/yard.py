"""A whole endpoint for tests, and what its user does with it: boto3, real containers and archives.

    with Yard(tmp_path) as yard:  # its instances are stubs; with **SERVE: this installation's
        yard.add("m.tar.gz", says="hello")
        yard.endpoint(yard.variant(instances=2))
        yard.invoke("m.tar.gz").json["says"]

The endpoint runs in a thread of the test's process, see ``Yard.call``. ``Child`` is one that runs
in a process of its own, which can be killed.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import boto3
import httpx
import uvloop
from botocore.config import Config
from botocore.exceptions import ClientError

from endpoint.api.server import ApiServer
from endpoint.fleets import choice
from endpoint.objects.stores import Stores
from endpoint.platform import Platform
from endpoint.running import STATE_FILE, run
from endpoint.settings import EndpointSettings
from endpoint.state import State
from tests.endpoint.containers import running

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests/models"
ROLE = "arn:aws:iam::000000000000:role/any"
KEYS = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "region_name": "us-east-1",
}
SESSION = boto3.Session(**KEYS)
WAIT_SECONDS = 20.0
NEVER = 1_000_000

# Instances are of stub containers unless a test says otherwise.
STUBS: Mapping[str, Any] = {
    "local_command": running.COMMAND,
    "probe_interval_seconds": 0.5,
    "stop_timeout_seconds": 2.0,
    "invoke_timeout_seconds": 15.0,
}
SERVE: Mapping[str, Any] = {"local_command": ""}


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
        **others: Any,
    ) -> dict[str, Any]:
        """A ProductionVariant with a model of its own; ``variables`` are the container's."""
        model = f"model-{next(self._numbers)}"
        default = f"file://{self.models}/" if mode == "MultiModel" else ""
        container = {"Image": "any", "Mode": mode, "Environment": dict(variables or {})}
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
        """GET /status."""
        return httpx.get(f"{self.url}/status", trust_env=False).json()

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


class Traffic:
    """What came of the requests of ``traffic``."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.errors: list[Exception] = []

    def more(self, count: int = 20) -> None:
        """Return when so many more requests have been answered."""
        wanted = len(self.replies) + count
        until(lambda: len(self.replies) >= wanted or self.errors)

    def check(self) -> None:
        """Every request was answered."""
        assert self.replies
        assert not self.errors, (len(self.errors), self.errors[0])


@contextmanager
def traffic(invoke: Callable[[int], Reply], threads: int = 3) -> Iterator[Traffic]:
    """Have threads call it with numbers, one call after the other, while the block runs."""
    seen, over, numbers = Traffic(), threading.Event(), itertools.count()

    def send() -> None:
        while not over.is_set():
            try:
                seen.replies.append(invoke(next(numbers)))
            except Exception as error:
                seen.errors.append(error)

    workers = [threading.Thread(target=send) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        over.set()
        for worker in workers:
            worker.join()


class Yard(User):
    """The endpoint in a thread of this process."""

    def __init__(self, directory: Path, *, s3_url: str = "", **settings: Any) -> None:
        super().__init__(directory)
        self.settings = replace(
            EndpointSettings(), port=0, data_dir=str(directory / "data"), **{**STUBS, **settings}
        )
        self.stop_instances = True  # at the end
        self._s3_url = s3_url or None
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self.connect(f"http://127.0.0.1:{self._ready.result(WAIT_SECONDS)}")
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        if self.stop_instances:
            self.check_nothing_runs()

    def call(self, function: Callable[[], T]) -> T:
        """Call it in the endpoint's thread."""

        async def do() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(WAIT_SECONDS)

    async def _serve(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        # What only a log would tell.
        self.faults: list[Mapping[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.state = State(self.directory / "data" / STATE_FILE)
        fleet, stores = choice.make(self.settings, os.environ), Stores(self.settings, self._s3_url)
        self.platform = Platform(self.settings, self.state, fleet, stores)
        api = ApiServer(self.settings, self.state, self.platform)
        try:
            await self.platform.start()
            self._ready.set_result(await api.start())
            await self._end.wait()
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        finally:
            await api.stop(1.0)
            await self.platform.close(stop_instances=self.stop_instances)
            await stores.close()
            await fleet.close()
            self.state.close()


class Child(User):
    """The endpoint in a process of its own; its life ends with ``kill`` or ``stop``."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory)
        self._settings = {
            **STUBS, "port": 0, "data_dir": str(directory / "data"), **settings
        }  # fmt: skip

    def start(self) -> None:
        """Begin another life."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.endpoint.yard", json.dumps(self._settings)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.connect(self.process.stdout.readline().strip())

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: in order, with all instances."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        self.disconnect()
        with self.process:
            self.process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.check_nothing_runs()


def main(arguments: Sequence[str]) -> None:
    """The endpoint as a process; its URL is the first line that it prints."""
    settings = EndpointSettings(**json.loads(arguments[0]))
    uvloop.run(run(settings, os.environ, lambda url: print(url, flush=True)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
