"""An endpoint of a folder of archives, made through the API as anybody would make it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from modelyard.image_of_up import Image

_MAX_NAME = 63
_LOOK_SECONDS = 0.1
_SUFFIXES = (".tar.gz", ".tgz", ".tar")

# The platform's request must name them; nobody here looks at them, but for the image's name where
# there is one.
_ROLE = "arn:aws:iam::{account}:role/modelyard"
_INSTANCE_TYPE = "ml.m5.large"
_NO_IMAGE = "modelyard"

_SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")


class EndpointFailed(Exception):
    """Raised with why it is not in service."""


def name_of(folder: Path) -> str:
    """The folder's name with what an endpoint's name may not have replaced."""
    letters = re.sub(r"[^a-zA-Z0-9]+", "-", folder.resolve().name)
    return letters.strip("-")[:_MAX_NAME].strip("-") or "models"


def archives_in(folder: Path) -> list[str]:
    """The TargetModel of each archive, sorted."""
    files = (path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES) and path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files)


class FolderEndpoint:
    """The endpoint ``name`` of a folder, by a ``sagemaker`` client. Raises what boto3 raises.

    With an ``image`` it is served by containers of that; a new build of it is an update.
    """

    def __init__(
        self,
        client: Any,
        account: str,
        name: str,
        folder: Path,
        instances: int,
        image: Image | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._folder = folder.resolve()
        self._role = _ROLE.format(account=account)
        self._instances = instances
        self._image = image

    def ensure(self, say: Callable[[str], None]) -> None:
        """Create or update it, unless it is as it should be, and return when it is in service.

        Raises EndpointFailed.
        """
        found = self._settled()
        if found is not None and found["EndpointStatus"] == "Failed":
            say(f"endpoint {self._name} has failed before: {found.get('FailureReason', '')}")
            self._client.delete_endpoint(EndpointName=self._name)
            found = self._settled()
        config = self._ensure_config()
        names = {"EndpointName": self._name, "EndpointConfigName": config}
        if found is None:
            say(f"creating endpoint {self._name} of {self._folder}")
            self._client.create_endpoint(**names)
        elif found["EndpointConfigName"] != config:
            say(f"updating endpoint {self._name} for {self._folder}")
            self._client.update_endpoint(**names)
        self._check(self._settled(), config)

    def _settled(self) -> dict[str, Any] | None:
        """The endpoint when nothing happens to it any more; None if there is none."""
        while (found := self._described()) is not None:
            if found["EndpointStatus"] in _SETTLED:
                return found
            time.sleep(_LOOK_SECONDS)
        return None

    def _check(self, found: dict[str, Any] | None, config: str) -> None:
        if found is None:
            raise EndpointFailed(f"endpoint {self._name} was deleted meanwhile")
        as_asked = found["EndpointConfigName"] == config
        if found["EndpointStatus"] != "InService" or not as_asked:
            reason = found.get("FailureReason") or f"its status is {found['EndpointStatus']}"
            raise EndpointFailed(f"endpoint {self._name} is not in service: {reason}")

    def _described(self) -> dict[str, Any] | None:
        return self._found(self._client.describe_endpoint, EndpointName=self._name)

    def _ensure_config(self) -> str:
        """The name of a configuration that says all this, and of a model; both stay for good."""
        url = f"file://{self._folder}/"
        image = self._image
        parts = (url, str(self._instances), *((image.name, image.build) if image else ()))
        mark = blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()
        name = f"{self._name[: _MAX_NAME - 9].rstrip('-')}-{mark}"
        if not self._found(self._client.describe_model, ModelName=name):
            container = {
                "Image": image.name if image else _NO_IMAGE,
                "Mode": "MultiModel",
                "ModelDataUrl": url,
            }
            self._client.create_model(
                ModelName=name, ExecutionRoleArn=self._role, PrimaryContainer=container
            )
        if not self._found(self._client.describe_endpoint_config, EndpointConfigName=name):
            variant = {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": _INSTANCE_TYPE,
                "InitialInstanceCount": self._instances,
            }
            self._client.create_endpoint_config(
                EndpointConfigName=name, ProductionVariants=[variant]
            )
        return name

    def _found(self, describe: Callable[..., dict[str, Any]], **name: str) -> dict[str, Any] | None:
        try:
            return describe(**name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationException":
                return None
            raise
