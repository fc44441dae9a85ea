"""Which models an endpoint has: told by the user, or found where its archives are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
)

from modelyard import aws
from modelyard.endpoint_of_folder import archives_in
from modelyard.load_test.place import Place
from modelyard.load_test.problem import Problem

_PATIENCE_SECONDS = 30.0
_SUFFIXES = (".tar.gz", ".tgz", ".tar")
_NOT_FOUND = "ValidationException"
_GIVE_THEM = "name them with --models or --models-from"


@dataclass(frozen=True, slots=True)
class Targets:
    """TargetModels, the most popular first; one "" for an endpoint of a single model.

    ``notes`` say where they are from.
    """

    names: list[str]
    notes: list[str] = field(default_factory=list)


def listed(text: str) -> list[str]:
    """The models of ``--models``: separated by commas."""
    return _once(text.split(","))


def read(path: Path) -> list[str]:
    """The models of ``--models-from``: one on each line. Raises Problem."""
    try:
        names = _once(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError:
        raise Problem(f"--models-from: {path} is not text in UTF-8") from None
    except OSError as error:
        raise Problem(f"--models-from: {path} cannot be read ({error.strerror})") from error
    if not names:
        raise Problem(f"--models-from: there is no model in {path}")
    return names


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def find(place: Place, endpoint: str, given: list[str] | None) -> Targets:
    """The models that were ``given``, else those that the endpoint's archives say.

    The endpoint is looked at in both cases. Raises Problem when it is not there, cannot be reached,
    or has no models.
    """
    try:
        container = _container(place, endpoint)
    except ClientError as error:
        told = error.response["Error"]
        if told["Code"] == _NOT_FOUND or given is None:
            also = "" if told["Code"] == _NOT_FOUND else f"; {_GIVE_THEM}"
            raise Problem(f"{told['Code']}: {told['Message']}{also}") from error
        # Whoever may only invoke it cannot look at it.
        return Targets(given, [f"the endpoint cannot be described ({told['Code']})"])
    except NoCredentialsError as error:
        raise Problem(f"{error}: set AWS_PROFILE, or a key and its secret") from error
    except NoRegionError as error:
        raise Problem(f"{error} Give --region") from error
    except BotoCoreError as error:
        raise Problem(str(error)) from error
    if given is not None:
        return Targets(given)
    if container.get("Mode") != "MultiModel":
        return Targets([""], ["it is an endpoint of one model: no TargetModel is sent"])
    return _found(place, str(container.get("ModelDataUrl", "")))


def _container(place: Place, endpoint: str) -> dict[str, Any]:
    """The container of its first variant."""
    client = _client("sagemaker", place.api, place)
    try:
        described = client.describe_endpoint(EndpointName=endpoint)
        if described["EndpointStatus"] in ("Creating", "Failed", "Deleting"):
            raise Problem(f"endpoint {endpoint} is not in service: {described['EndpointStatus']}")
        name = described["EndpointConfigName"]
        config = client.describe_endpoint_config(EndpointConfigName=name)
        model = client.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    finally:
        client.close()
    containers = [*model.get("Containers", []), model.get("PrimaryContainer", {})]
    return dict(containers[0])


def _found(place: Place, url: str) -> Targets:
    try:
        names = _in_folder(url) if url.startswith("file://") else _in_bucket(place, url)
    except (BotoCoreError, ClientError, OSError) as error:
        raise Problem(f"the archives at {url} cannot be listed: {error}; {_GIVE_THEM}") from error
    if not names:
        raise Problem(f"there is no archive at {url}: put some there, or {_GIVE_THEM}")
    return Targets(names, [f"{len(names):,} models found at {url}"])


def _in_folder(url: str) -> list[str]:
    folder = Path(url.removeprefix("file://"))
    if not folder.is_dir():
        raise Problem(f"{folder} is not on this machine: {_GIVE_THEM}")
    return archives_in(folder)


def _in_bucket(place: Place, url: str) -> list[str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = _client("s3", place.s3, place)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    finally:
        client.close()
    return sorted(key.removeprefix(prefix) for key in keys if key.endswith(_SUFFIXES))


def _client(service: str, url: str | None, place: Place) -> Any:
    return aws.client(service, url, region=place.region, patience_seconds=_PATIENCE_SECONDS)
