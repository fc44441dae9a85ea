"""How things are called: ARNs, and the patterns that the platform holds names to."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The names of endpoints and variants, as sagemaker-runtime's model spells the pattern.
NAME_PATTERN = "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
MAX_NAME = 63

MODEL, CONFIG, ENDPOINT = "model", "endpoint-config", "endpoint"

_ARN = re.compile(
    r"arn:aws[a-z-]*:sagemaker:(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}):"
    rf"(?P<kind>{MODEL}|{CONFIG}|{ENDPOINT})/(?P<name>.+)"
)


@dataclass(frozen=True, slots=True)
class Names:
    """ARNs of one account in one region."""

    region: str
    account: str

    def arn(self, kind: str, name: str) -> str:
        """Of a model, an endpoint configuration or an endpoint."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name}"

    def user(self, access_key_id: str) -> str:
        """Of the user that a key stands for."""
        return f"arn:aws:iam::{self.account}:user/{access_key_id}"

    def log_group(self, endpoint: str) -> str:
        """Of the logs of an endpoint's containers."""
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:{group}"

    def parse(self, arn: str) -> tuple[str, str] | None:
        """The kind and name in an ARN of this account and region, else None."""
        found = _ARN.fullmatch(arn)
        if found is None or (found["region"], found["account"]) != (self.region, self.account):
            return None
        return found["kind"], found["name"]
