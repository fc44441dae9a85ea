"""The SageMaker SDK's local mode starts containers of the image, by docker-compose and Podman."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from endpoint.fleets.ports import free_blocks
from tests.environments import SAGEMAKER_2, interpreter
from tests.images.of_page import printed_by_block
from tests.modelyard.shell import Shell
from tests.podman import Podman, install_debian

NO_TELEMETRY = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}

# The SDK asks Docker's own command for its compose first, and then whatever it says.
NO_PLUGIN = "#!/bin/sh\necho no compose here >&2\nexit 1\n"
NETWORK = "sagemaker-local"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's files: what the SDK is told there, not in the page's code."""
    home = tmp_path / "home"
    (home / ".sagemaker").mkdir(parents=True)
    (home / "containers").mkdir()
    local = {"serving_port": next(free_blocks()).port, "container_root": str(home / "containers")}
    # YAML is what it reads, and JSON is.
    (home / ".sagemaker" / "config.yaml").write_text(json.dumps({"local": local}))
    (home / "config.yaml").write_text(json.dumps({"SchemaVersion": "1.0", **NO_TELEMETRY}))
    (home / "bin").mkdir()
    (home / "bin" / "docker").write_text(NO_PLUGIN)
    (home / "bin" / "docker").chmod(0o755)
    return home


@pytest.fixture
def only_ours(engine: Podman) -> Iterator[None]:
    """Containers and the network that local mode leaves behind are gone after the test."""
    before = set(engine.run("ps", "--all", "--quiet").split())
    yield
    left = set(engine.run("ps", "--all", "--quiet").split()) - before
    for container in left:
        engine.run("rm", "--force", "--ignore", "--time", "0", container)
    if NETWORK in engine.run("network", "ls", "--format", "{{.Name}}").split():
        engine.run("network", "rm", "--force", NETWORK)


def test_multi_data_model_deploys_to_a_container(
    engine: Podman, up_image: None, only_ours: None, home: Path, tmp_path: Path
) -> None:
    install_debian("docker-compose")
    python = interpreter(*SAGEMAKER_2)
    shell = Shell(tmp_path)
    try:
        found = shell.up()
        # Its files take the places of the other's where the SDK extracts both, or the reverse.
        (tmp_path / "model.joblib").write_text("no model")
        with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "model.joblib", "model.joblib")
        with closing(shell.client("s3")) as s3:
            s3.create_bucket(Bucket="local-models")
            s3.upload_file(str(tmp_path / "other.tar.gz"), "local-models", "team/other.tar.gz")
        printed = printed_by_block(
            "LocalSession",
            home,
            python,
            **found,
            PATH=f"{home / 'bin'}:{os.environ['PATH']}",
            DOCKER_HOST=engine.url,
            SAGEMAKER_USER_CONFIG_OVERRIDE=str(home / "config.yaml"),
            SAGEMAKER_SUPPRESS_V2_WARNING="1",
        )
    finally:
        shell.run("down")
    assert "['setosa']" in printed  # among what the container has logged
    assert shell.processes() == []
