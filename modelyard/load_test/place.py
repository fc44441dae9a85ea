"""Where an endpoint is: here, or at AWS."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelyard.address import NoEndpoint, address
from modelyard.load_test.problem import Problem


class Place(msgspec.Struct, frozen=True):
    """URLs of InvokeEndpoint, of the control plane and of S3, and the region of all three.

    None: AWS's own, and the region that boto3 finds.
    """

    runtime: str | None = None
    api: str | None = None
    s3: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return self.runtime or f"AWS, {self.region or 'the default region'}"


def at_aws(region: str | None) -> Place:
    """AWS itself."""
    return Place(region=region)


def place_of(
    url: str | None, data_dir: str | None, region: str | None, environment: Mapping[str, str]
) -> Place:
    """As other commands find an endpoint. Raises Problem."""
    try:
        found = address(url, data_dir, environment)
    except NoEndpoint as error:
        raise Problem(f"{error}; --aws for one at AWS") from error
    return Place(found.runtime, found.api, found.s3, region or found.region)
