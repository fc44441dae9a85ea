"""The image that SageMaker pulls: one that is in ECR, or one of this machine, which is pushed."""

from __future__ import annotations

import base64
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from modelyard.deploy.calls import Calls
from modelyard.deploy.engine import ContainerEngine, LocalImage, Login
from modelyard.deploy.plan import Plan
from modelyard.deploy.problems import DeployError, code_of
from modelyard.deploy.undo import Undo
from modelyard.say import say

SERVICE = "ecr"
MULTI_MODEL_LABEL = "com.amazonaws.sagemaker.capabilities.multi-models"

_IN_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9._/-]+?)(@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))?"
)
_SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "image"
# As container engines name this machine's processors.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# The tag of an image that a dry run does not build.
_NOT_BUILT = "BUILT"


@dataclass(frozen=True, slots=True)
class ImageWish:
    """What is asked for: an image by name, perhaps to be built for a ``device`` before."""

    name: str
    repository: str
    device: str | None
    extras: str


class Image:
    """From what is asked for to a URI. Raises DeployError and what boto3 raises."""

    def __init__(self, wish: ImageWish, calls: Calls, environment: Mapping[str, str]) -> None:
        self._wish = wish
        self._calls = calls
        self._environment = environment
        self._in_ecr = _IN_ECR.fullmatch(wish.name)

    def check(self, plan: Plan) -> None:
        """All that can be said before anything is changed."""
        if self._wish.device:
            if not _SCRIPT.exists():
                raise DeployError("--build needs the source of Modelyard: clone it first", 2)
            if self._in_ecr:
                raise DeployError("--build makes an image of this machine, not one in ECR", 2)
        if not self._calls.reaches(SERVICE):  # a local endpoint: its fleet knows its images
            return
        if self._in_ecr:
            self._check_there(self._in_ecr)
        elif not self._wish.device:
            self._check_local(self._local(), plan)

    def ensure(self, plan: Plan, undo: Undo) -> str:
        """Build and push it, as far as need be, and return its URI."""
        if self._wish.device:
            self._build(self._wish.device, plan.architecture)
        if self._in_ecr or not self._calls.reaches(SERVICE):
            return self._wish.name
        found = self._engine.image(self._wish.name)
        if found is None and self._wish.device and self._calls.dry_run:
            say(f"the tag is the image's own, which is built then; {_NOT_BUILT} stands for it")
            found = LocalImage(self._wish.name, _NOT_BUILT, plan.architecture, {})
        else:
            found = self._local()
            self._check_local(found, plan)
        return self._pushed(found, undo)

    @cached_property
    def _engine(self) -> ContainerEngine:
        return ContainerEngine.find(self._environment)

    def _build(self, device: str, architecture: str) -> None:
        command = [str(_SCRIPT), device, "--tag", self._wish.name]
        command += ["--extras", self._wish.extras] if self._wish.extras else []
        if _ARCHITECTURES.get(platform.machine()) != architecture:
            command += ["--platform", f"linux/{architecture}"]
        if self._calls.dry_run:
            self._calls.show(shlex.join(command))
        elif subprocess.run(command, env=dict(self._environment), stdout=2, check=False).returncode:
            raise DeployError(f"the image cannot be built: {shlex.join(command)}")

    # --- of this machine ------------------------------------------------------------------------

    def _local(self) -> LocalImage:
        found = self._engine.image(self._wish.name)
        if found is None:
            raise DeployError(
                f"{self._engine.command[0]} has no image {self._wish.name}: build it with "
                "./scripts/image, or let --build do so",
                2,
            )
        return found

    def _check_local(self, found: LocalImage, plan: Plan) -> None:
        if found.labels.get(MULTI_MODEL_LABEL) != "true":
            raise DeployError(
                f"image {found.name} has no label {MULTI_MODEL_LABEL}=true, without which "
                "SageMaker does not take it for many models; add it, or build one with "
                "./scripts/image",
                2,
            )
        if found.architecture != plan.architecture:
            raise DeployError(
                f"image {found.name} is for {found.architecture}, and {plan.instance_type} is "
                f"{plan.architecture}: build it with --platform linux/{plan.architecture}",
                2,
            )

    def _pushed(self, found: LocalImage, undo: Undo) -> str:
        """Its URI in our repository, where it is under a tag of its content."""
        uri = self._repository(undo)
        ids = [{"imageTag": found.id}]
        if self._listed(self._wish.repository, ids) is None:
            say(f"pushing {found.name} as {uri}:{found.id}")
            self._push(found, f"{uri}:{found.id}")
        undo.keep()  # the image is whole, whatever becomes of the endpoint
        return f"{uri}:{found.id}"

    def _push(self, found: LocalImage, uri: str) -> None:
        if not self._calls.dry_run:
            self._engine.push(found.name, uri, self._login())
            return
        engine = self._engine.command
        login = [*engine, "login", "--username", "AWS", "--password-stdin", uri.split("/")[0]]
        password = f"aws ecr get-login-password --region {self._calls.region}"
        self._calls.show(f"{password} | {shlex.join(login)}")
        self._calls.show(shlex.join([*engine, "tag", found.name, uri]))
        self._calls.show(shlex.join([*engine, "push", uri]))

    # --- in ECR ---------------------------------------------------------------------------------

    def _check_there(self, uri: re.Match[str]) -> None:
        if uri["region"] != self._calls.region:
            raise DeployError(
                f"the image is in {uri['region']} and the endpoint would be in "
                f"{self._calls.region}: SageMaker pulls from ECR of its own region",
                2,
            )
        ids = (
            {"imageDigest": uri["digest"]}
            if uri["digest"]
            else {"imageTag": uri["tag"] or "latest"}
        )
        try:
            found = self._listed(uri["repository"], [ids], registryId=uri["account"])
        except ClientError as error:
            if code_of(error) != "AccessDeniedException":
                raise
            return  # of another account, perhaps: SageMaker will tell
        if found is None:
            raise DeployError(f"there is no image {uri[0]} in ECR: push it first", 2)

    def _listed(
        self, repository: str, ids: list[dict[str, str]], **registry: str
    ) -> dict[str, Any] | None:
        named = {"repositoryName": repository, "imageIds": ids, **registry}
        return self._calls.find(SERVICE, "describe_images", **named)

    def _repository(self, undo: Undo) -> str:
        """The URI of the repository, made if there is none."""
        name = self._wish.repository
        found = self._calls.find(SERVICE, "describe_repositories", repositoryNames=[name])
        if found is not None:
            return str(found["repositories"][0]["repositoryUri"])
        say(f"creating repository {name} in ECR")
        made = self._calls.change(
            *(SERVICE, "create_repository"),
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
        )
        undo.add(self._calls.remove, SERVICE, "delete_repository", repositoryName=name)
        if self._calls.dry_run:
            return f"{self._login().registry}/{name}"
        return str(made["repository"]["repositoryUri"])

    def _login(self) -> Login:
        (told,) = self._calls.ask(SERVICE, "get_authorization_token")["authorizationData"]
        user, _, password = base64.b64decode(told["authorizationToken"]).decode().partition(":")
        return Login(told["proxyEndpoint"].partition("://")[2], user, password)
