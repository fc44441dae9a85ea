"""compose.yaml: an endpoint, an S3 and two containers, by docker-compose and Podman."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.polling import eventually
from tests.images.containers import START_SECONDS
from tests.images.of_page import environment, printed_by_block
from tests.modelyard.conftest import COMMAND
from tests.podman import ROOT, Podman, install_debian

SERVICES = ("s3", "endpoint", "container-1", "container-2")
COMPOSE_SECONDS = 300.0
MEMORY = 2 << 30


@dataclass(frozen=True)
class Compose:
    """The file, as a project of the test alone."""

    engine: Podman
    directory: Path
    project: str

    def run(self, *arguments: str) -> str:
        """What the command prints."""
        ports = {"YARD_API_PORT": "", "YARD_S3_PORT": ""}  # free ones
        done = subprocess.run(
            ["docker-compose", "--project-name", self.project, *arguments],
            cwd=ROOT,
            env=environment(self.directory, DOCKER_HOST=self.engine.url, **ports),
            capture_output=True,
            text=True,
            timeout=COMPOSE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def known(self) -> dict[str, str]:
        """What the page has people tell boto3."""
        api = self.url("endpoint", 8181)
        return {
            "AWS_ENDPOINT_URL_S3": self.url("s3", 8182),
            "AWS_ENDPOINT_URL_SAGEMAKER": api,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": api,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "modelyard",
            "AWS_SECRET_ACCESS_KEY": "modelyard",
        }

    def id(self, service: str) -> str:
        """Of its container."""
        return self.run("ps", "--quiet", service)

    def url(self, service: str, port: int) -> str:
        """Where this machine finds it."""
        return f"http://{self.run('port', service, str(port))}"

    def wait(self) -> None:
        """As ``up --wait`` does; Podman leaves the looking to systemd, which may not be there."""
        waiting = [self.id(service) for service in SERVICES]

        def are_healthy() -> bool:
            waiting[:] = [one for one in waiting if not self._is_healthy(one)]
            return not waiting

        assert eventually(are_healthy, within_seconds=START_SECONDS), self.log()

    def log(self) -> str:
        """The end of what all have printed."""
        return self.run("logs", "--no-color", "--tail", "50")

    def _is_healthy(self, container: str) -> bool:
        command = self.engine.command("healthcheck", "run", container)
        done = subprocess.run(
            command, env=self.engine.environment(), capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0


@pytest.fixture
def compose(engine: Podman, up_image: None, tmp_path: Path) -> Iterator[Compose]:
    """What runs of it at the end of the test is gone after it."""
    install_debian("docker-compose")
    made = Compose(engine, tmp_path, f"test-{uuid4().hex[:8]}")
    yield made
    made.run("down", "--volumes", "--timeout", "1")
    label = ("--filter", f"label=com.docker.compose.project={made.project}")
    assert engine.run("ps", "--all", "--quiet", *label) == ""
    assert engine.run("volume", "ls", "--quiet", *label) == ""


def test_an_endpoint_of_two_containers_is_there_until_down(
    compose: Compose, engine: Podman, tmp_path: Path
) -> None:
    compose.run("up", "--detach")
    compose.wait()
    ports = [compose.url("s3", 8182), compose.url("endpoint", 8181)]
    assert all(url.startswith("http://127.0.0.1:") for url in ports)
    assert printed_by_block("EndpointConfigName", tmp_path, **compose.known()) == '["setosa"]\n'
    for service in SERVICES:
        what = "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}} {{.HostConfig.Memory}}"
        limit = MEMORY if service.startswith("container") else 0
        found = engine.run("inspect", "--format", what, compose.id(service)).strip()
        assert found == f"true [] {limit}"
    compose.run("restart", "endpoint")
    compose.wait()
    url = compose.known()["AWS_ENDPOINT_URL_SAGEMAKER"]
    asked = ("--url", url, "--data", "5.1,3.5,1.4,0.2", "--content-type", "text/csv")
    done = subprocess.run(
        [COMMAND, "invoke", "many", "iris.tar.gz", *asked],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ('["setosa"]', 0), done.stderr
