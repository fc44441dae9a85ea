"""Where the endpoint is that a command talks to: what was asked, the shell, or a data directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from container.environment import settings_from
from endpoint.settings import EndpointSettings
from modelyard.data_dir import DataDir

# What boto3 reads to find its services; ``modelyard up`` prints them.
API_VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER"
RUNTIME_VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
S3_VARIABLE = "AWS_ENDPOINT_URL_S3"


class NoEndpoint(Exception):
    """Raised when there is no endpoint to talk to; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of an endpoint, and its region if that is known.

    ``api`` is where its control plane is, ``s3`` its object store, None for AWS's.
    """

    runtime: str
    region: str | None
    api: str
    s3: str | None


def address(url: str | None, data_dir: str | None, environment: Mapping[str, str]) -> Address:
    """Where the endpoint is.

    ``url`` wins, then ``data_dir``, then the variable that boto3 reads, then the data directory
    that is set for `modelyard up`. Raises NoEndpoint, and SettingsError.
    """
    s3 = environment.get(S3_VARIABLE)
    if url:
        return Address(url, None, url, s3)
    told = environment.get(RUNTIME_VARIABLE)
    if told and data_dir is None:
        return Address(told, None, environment.get(API_VARIABLE, told), s3)
    given = {} if data_dir is None else {"data_dir": data_dir}
    data = DataDir(settings_from(EndpointSettings, environment, given).data_dir)
    running = data.running()
    if running is None:
        raise NoEndpoint(
            f"no endpoint runs on {data.path}: start one with `modelyard up`, or give --url or "
            "--data-dir"
        )
    return Address(running.url, running.region, running.url, running.s3 or s3)
