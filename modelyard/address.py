"""Where the endpoint is that a command talks to: what was asked, the shell, or a data directory."""

from __future__ import annotations

from collections.abc import Mapping

from container.environment import settings_from
from endpoint.settings import EndpointSettings
from modelyard import aws
from modelyard.data_dir import DataDir


class NoEndpoint(Exception):
    """Raised when there is no endpoint to talk to; the text says what to do."""


def find(
    url: str | None, data_dir: str | None, environment: Mapping[str, str]
) -> tuple[str, str | None]:
    """The URL of the endpoint, and its region if that is known.

    ``url`` wins, then ``data_dir``, then the variable that boto3 reads, then the data directory
    that is set for `modelyard up`. Raises NoEndpoint, and SettingsError.
    """
    if url:
        return url, None
    told = environment.get(aws.RUNTIME_VARIABLE)
    if told and data_dir is None:
        return told, None
    given = {} if data_dir is None else {"data_dir": data_dir}
    data = DataDir(settings_from(EndpointSettings, environment, given).data_dir)
    running = data.running()
    if running is None:
        raise NoEndpoint(
            f"no endpoint runs on {data.path}: start one with `modelyard up`, or give --url or "
            "--data-dir"
        )
    return running.url, running.region
