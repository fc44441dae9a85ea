"""The container engine of this machine by its command, Docker's or Podman's: look, and push."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelyard.deploy.problems import DeployError

VARIABLE = "CONTAINER_ENGINE"

_LOOK_SECONDS = 60.0
_LAST_WORDS_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that the engine has. ``id`` has twelve digits; ``architecture`` as of Docker."""

    name: str
    id: str
    architecture: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a registry."""

    registry: str
    user: str
    password: str


class ContainerEngine:
    """One command line; ``environment`` is what it runs in. Raises DeployError."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.command = list(command)
        self._environment = dict(environment)

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> ContainerEngine:
        """The one that $CONTAINER_ENGINE names, else Docker if it runs, else Podman."""
        named = shlex.split(environment.get(VARIABLE, ""))
        if named:
            return cls(named, environment)
        for command in (["docker"], ["podman"]):
            engine = cls(command, environment)
            if shutil.which(command[0]) and engine._run("info").returncode == 0:
                return engine
        raise DeployError(
            "an image of this machine takes Docker, with its engine running, or Podman; or name "
            "one that is in ECR: --image ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG",
            2,
        )

    def image(self, name: str) -> LocalImage | None:
        """What it knows of an image; None if it has none of that name."""
        done = self._run("image", "inspect", name)
        if done.returncode:
            return None
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return LocalImage(
            name,
            found["Id"].removeprefix("sha256:")[:12],
            found["Architecture"],
            found["Config"].get("Labels") or {},
        )

    def push_commands(self, image: str, uri: str, files: Path) -> list[list[str]]:
        """What a push runs, with the login of ``files``."""
        tag = [*self.command, "tag", image, uri]
        if self._is_podman:  # SageMaker takes Docker's manifests, whatever the image was built as
            options = ["--format", "v2s2", "--authfile", str(files / "config.json")]
            return [tag, [*self.command, "push", *options, uri]]
        return [tag, [*self.command, "--config", str(files), "push", uri]]

    def push(self, image: str, uri: str, login: Login) -> None:
        """Push it under that name. The login is kept nowhere."""
        with TemporaryDirectory(prefix="modelyard-login-") as directory:
            files = Path(directory)
            (files / "config.json").write_text(_login_file(login))
            environment = {**self._environment, **self._address()}
            for command in self.push_commands(image, uri, files):
                done = subprocess.run(
                    *(command,), env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    words = (done.stderr or done.stdout).strip()[-_LAST_WORDS_CHARACTERS:]
                    raise DeployError(
                        f"{shlex.join(command[:2])}: {uri} cannot be pushed: {words}\n"
                        "is pushing allowed? deploy/iam/deployer.json has the rights that it takes"
                    )

    @property
    def _is_podman(self) -> bool:
        return "podman" in Path(self.command[0]).name

    def _address(self) -> dict[str, str]:
        """Docker finds its engine by a context of its configuration, which a login replaces."""
        if self._is_podman or "DOCKER_HOST" in self._environment:
            return {}
        done = self._run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
        return {"DOCKER_HOST": done.stdout.strip()} if done.returncode == 0 else {}

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self.command, *arguments],
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=_LOOK_SECONDS,
                check=False,
            )
        except OSError as error:
            raise DeployError(f"{VARIABLE}: {self.command[0]}: {error.strerror}", 2) from error
        except subprocess.TimeoutExpired as error:
            raise DeployError(
                f"{self.command[0]} does not answer within {_LOOK_SECONDS:g} seconds", 2
            ) from error


def _login_file(login: Login) -> str:
    secret = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    return json.dumps({"auths": {login.registry: {"auth": secret}}})
