"""What boto3 of this shell knows of AWS, and what it must be told to talk to a local endpoint.

Needs boto3, so only those import it who have made sure of that.
"""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from modelyard.address import API_VARIABLE, RUNTIME_VARIABLE, S3_VARIABLE
from modelyard.data_dir import Running

# Of a user who has no keys: boto3 signs every request, whoever looks at it.
KEYS = {"AWS_ACCESS_KEY_ID": "modelyard", "AWS_SECRET_ACCESS_KEY": "modelyard"}

CLOUDWATCH_VARIABLE = "AWS_ENDPOINT_URL_CLOUDWATCH"

# How long a connection may take, where it is not refused at once.
_CONNECT_SECONDS = 10.0


def exports(running: Running) -> dict[str, str]:
    """The variables with which boto3 finds the endpoint, and what else it would miss."""
    urls = {
        API_VARIABLE: running.url,
        RUNTIME_VARIABLE: running.url,
        CLOUDWATCH_VARIABLE: running.url,
        S3_VARIABLE: running.s3,
    }
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


def client(
    service: str,
    url: str | None,
    *,
    region: str | None = None,
    patience_seconds: float,
    connections: int = 10,
) -> Any:
    """A client of an endpoint, which is as patient as ``patience_seconds`` and never tries again.

    Without ``url`` it is one of AWS itself, which takes no keys but the user's. Raises
    BotoCoreError.
    """
    session = boto3.Session(botocore_session=_session(ask_machine=url is None))
    keys = {} if url is None or session.get_credentials() else KEYS
    default_region = None if url is None else "us-east-1"
    return session.client(
        service,
        endpoint_url=url,
        region_name=region or session.region_name or default_region,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=patience_seconds,
            max_pool_connections=connections,
            ignore_configured_endpoint_urls=url is None,
        ),
        **{name.lower(): value for name, value in keys.items()},
    )


def _session(*, ask_machine: bool) -> Any:
    """Without ``ask_machine`` nobody waits for a metadata service that is not there."""
    session = botocore.session.Session()
    if not ask_machine:
        session.set_config_variable("metadata_service_num_attempts", 0)
    return session
