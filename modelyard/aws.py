"""What boto3 of this shell knows of AWS, and what it must be told to talk to a local endpoint.

Needs boto3, so only those import it who have made sure of that.
"""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from modelyard.data_dir import Running

# Of a user who has no keys: boto3 signs every request, whoever looks at it.
KEYS = {"AWS_ACCESS_KEY_ID": "modelyard", "AWS_SECRET_ACCESS_KEY": "modelyard"}

API_VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER"
RUNTIME_VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
S3_VARIABLE = "AWS_ENDPOINT_URL_S3"


def exports(running: Running) -> dict[str, str]:
    """The variables with which boto3 finds the endpoint, and what else it would miss."""
    urls = {API_VARIABLE: running.url, RUNTIME_VARIABLE: running.url, S3_VARIABLE: running.s3}
    found = {name: url for name, url in urls.items() if url}
    if found_region() in (None, running.region):  # ours, or from an earlier line like this
        found["AWS_DEFAULT_REGION"] = running.region
    if running.settings.get("access_file"):
        return found  # only they know their keys
    return {**found, **missing_keys(own_s3=running.own_s3)}


def missing_keys(*, own_s3: bool) -> dict[str, str]:
    """Keys for one who has none; {} for all others.

    To an S3 of ours it does not matter whether this machine itself has a role.
    """
    session = _session(ask_machine=not own_s3)
    credentials = session.get_credentials()
    if credentials is None or credentials.access_key == KEYS["AWS_ACCESS_KEY_ID"]:
        return dict(KEYS)
    return {}


def found_region() -> str | None:
    """What boto3 would take without being told."""
    region: str | None = botocore.session.Session().get_config_variable("region")
    return region


def client(service: str, url: str, *, region: str | None = None, patience_seconds: float) -> Any:
    """A client of an endpoint, which is as patient as ``patience_seconds`` and never tries again.

    Raises BotoCoreError.
    """
    session = boto3.Session(botocore_session=_session(ask_machine=False))
    keys = {} if session.get_credentials() else KEYS
    return session.client(
        service,
        endpoint_url=url,
        region_name=region or session.region_name or "us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=patience_seconds,
        ),
        **{name.lower(): value for name, value in keys.items()},
    )


def _session(*, ask_machine: bool) -> Any:
    """Without ``ask_machine`` nobody waits for a metadata service that is not there."""
    session = botocore.session.Session()
    if not ask_machine:
        session.set_config_variable("metadata_service_num_attempts", 0)
    return session
