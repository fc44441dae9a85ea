"""An image of this machine is pushed to a registry that stands where ECR would."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.contract.polling import eventually
from tests.deploy.conftest import ACCOUNT, MODELS, REGION, ROLE, Aws, Done
from tests.modelyard.conftest import COMMAND, environment
from tests.podman import MULTI_MODEL, Podman, install_debian, podman

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
GOOD, BARE = "localhost/labelled:1", "localhost/bare:1"
# Of a user that nobody is.
USERS = "nobody:$2y$05$abcdefghijklmnopqrstuuJ9XzYkq9n8t8f6o0m0rJ8Zl8v1pQK2e\n"


@dataclass(frozen=True)
class Pushing:
    """An engine with images, and the registry at HOST for whoever is run ``there``."""

    engine: Podman
    directory: Path
    address: str

    def deploy(self, aws: Aws, image: str, *options: str) -> Done:
        """In a name space of mounts where HOST is the registry's address."""
        command = [COMMAND, "deploy", "many", "--models", MODELS, "--role", ROLE]
        script = 'mount --bind "$HOSTS" /etc/hosts && exec "$@"'
        own = {
            **aws.variables(),
            **self.engine.environment(),
            "CONTAINER_ENGINE": " ".join(self.engine.command()),
            "CONTAINERS_REGISTRIES_CONF": str(self.directory / "registries.conf"),
            "HOSTS": str(self.directory / "hosts"),
        }
        return subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", script, "sh"),
                *(*map(str, command), "--image", image, *options),
            ],
            env=environment(**own),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def tags(self) -> list[str]:
        """Those that the registry has of our repository."""
        answer = httpx.get(f"http://{self.address}/v2/modelyard/tags/list")
        found: list[str] = answer.json().get("tags", [])
        return found


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman(tmp_path_factory.mktemp("podman")) as running:
        running.make_image(GOOD, MULTI_MODEL)
        running.make_image(BARE)
        yield running


@pytest.fixture
def pushing(engine: Podman, tmp_path: Path) -> Iterator[Pushing]:
    with _registry(tmp_path) as address:
        yield _pushing(engine, tmp_path, address)


def _pushing(engine: Podman, directory: Path, address: str) -> Pushing:
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs the right to have mounts of its own")
    (directory / "hosts").write_text(f"127.0.0.1 localhost\n{address} {HOST}\n")
    (directory / "registries.conf").write_text(f'[[registry]]\nlocation="{HOST}"\ninsecure=true\n')
    return Pushing(engine, directory, address)


@contextmanager
def _registry(directory: Path, **settings: str) -> Iterator[str]:
    """A registry at port 80 of a loopback address of its own."""
    install_debian("docker-registry")
    if os.geteuid() != 0:
        pytest.skip("needs port 80")
    address = f"127.{random.randint(2, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    data = directory / "registry"
    data.mkdir()
    config = directory / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}:80'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {data}}}}}\n"
    )
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [str(shutil.which("docker-registry")), "serve", str(config)],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        assert eventually(lambda: _answers(address), within_seconds=60)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/v2/").status_code in (200, 401)
    except httpx.TransportError:
        return False


def test_an_image_is_pushed_under_its_id_and_named_in_the_model(aws: Aws, pushing: Pushing) -> None:
    done = pushing.deploy(aws, GOOD)
    assert done.returncode == 0, done.stderr
    (tag,) = pushing.tags()
    (model,) = aws.client("sagemaker").list_models()["Models"]
    found = aws.client("sagemaker").describe_model(ModelName=model["ModelName"])
    assert found["PrimaryContainer"]["Image"] == f"{HOST}/modelyard:{tag}"
    inspected = pushing.engine.run("image", "inspect", "--format", "{{.Id}}", GOOD)
    assert inspected.startswith(tag)


def test_the_repository_is_made_and_stays(aws: Aws, pushing: Pushing) -> None:
    ecr = aws.client("ecr")
    ecr.delete_repository(repositoryName="modelyard", force=True)
    assert pushing.deploy(aws, GOOD).returncode == 0
    (made,) = ecr.describe_repositories()["repositories"]
    assert made["repositoryName"] == "modelyard"
    assert made["imageTagMutability"] == "IMMUTABLE"


def test_a_dry_run_prints_the_push_and_does_not_push(aws: Aws, pushing: Pushing) -> None:
    done = pushing.deploy(aws, GOOD, "--dry-run")
    assert done.returncode == 0, done.stderr
    login, tag, push, model, *_ = done.stdout.splitlines()
    assert login.startswith("aws ecr get-login-password --region us-east-1 | podman")
    assert login.endswith(f"login --username AWS --password-stdin {HOST}")
    assert f"tag {GOOD} {HOST}/modelyard:" in tag
    assert f"push {HOST}/modelyard:" in push
    assert f'"Image": "{HOST}/modelyard:' in model
    assert pushing.tags() == []


def test_a_push_that_is_denied_leaves_nothing(aws: Aws, engine: Podman, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(USERS)
    auth = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "r",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
    }
    aws.client("ecr").delete_repository(repositoryName="modelyard", force=True)
    with _registry(tmp_path, **auth) as address:
        done = _pushing(engine, tmp_path, address).deploy(aws, GOOD)
    assert done.returncode == 1
    assert "cannot be pushed" in done.stderr
    assert "deploy/iam/deployer.json" in done.stderr
    assert aws.client("ecr").describe_repositories()["repositories"] == []
    assert aws.parts() == []


def test_an_image_without_the_label_is_not_pushed(aws: Aws, pushing: Pushing) -> None:
    done = pushing.deploy(aws, BARE)
    assert done.returncode == 2
    assert "has no label com.amazonaws.sagemaker.capabilities.multi-models=true" in done.stderr
    assert pushing.tags() == [] and aws.parts() == []


def test_an_image_for_other_processors_is_not_pushed(aws: Aws, pushing: Pushing) -> None:
    done = pushing.deploy(aws, GOOD, "--instance-type", "ml.c7g.xlarge")
    assert done.returncode == 2
    assert "ml.c7g.xlarge is arm64: build it with --platform linux/arm64" in done.stderr


def test_an_image_that_there_is_not(aws: Aws, pushing: Pushing) -> None:
    done = pushing.deploy(aws, "localhost/none:1")
    assert done.returncode == 2
    assert "has no image localhost/none:1: build it with ./scripts/image" in done.stderr


def test_a_dry_run_prints_the_build_of_an_image_that_there_is_not_yet(
    aws: Aws, pushing: Pushing
) -> None:
    options = ("--build", "cpu", "--extras", "sklearn", "--dry-run")
    done = pushing.deploy(aws, "localhost/none:1", *options)
    assert done.returncode == 0, done.stderr
    build, _, _, push, *_ = done.stdout.splitlines()
    assert build.endswith("scripts/image cpu --tag localhost/none:1 --extras sklearn")
    assert push.endswith(f"push {HOST}/modelyard:BUILT")
