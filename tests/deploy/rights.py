"""The policies of ``deploy/iam``, and moto told to look at rights.

It looks at actions, not at resources and conditions.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

import httpx

from tests.deploy.conftest import ACCOUNT, BUCKET, REGION, ROLE, Aws
from tests.podman import ROOT

POLICIES = sorted((ROOT / "deploy" / "iam").glob("*.json"))
VALUES = {
    "ACCOUNT": ACCOUNT,
    "BUCKET": BUCKET,
    "ENDPOINT": "many",
    "PREFIX": "models/",
    "REGION": REGION,
    "REPOSITORY": "modelyard",
    "ROLE": ROLE,
    "TEAM": "a",
}


def policy(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Template(path.read_text()).substitute(VALUES))
    return found


def actions(path: Path) -> set[str]:
    found: set[str] = set()
    for statement in policy(path)["Statement"]:
        given = statement["Action"]
        found |= {given} if isinstance(given, str) else set(given)
    return found


DEPLOYER = actions(ROOT / "deploy" / "iam" / "deployer.json")


def look_at_rights(aws: Aws, on: bool) -> None:
    """Whether moto refuses what somebody has no right to."""
    count = b"0" if on else b"inf"
    httpx.post(f"{aws.url}/moto-api/reset-auth", content=count).raise_for_status()


def grant(aws: Aws, rights: set[str]) -> None:
    """Give the user ``deployer`` these rights and no others, and look at them from now on."""
    # CloudWatch's goes by the name of its address there.
    rights = {right.replace("cloudwatch:", "monitoring:") for right in rights}
    look_at_rights(aws, False)
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": sorted(rights), "Resource": "*"}],
    }
    aws.client("iam").put_user_policy(
        UserName="deployer", PolicyName="rights", PolicyDocument=json.dumps(document)
    )
    look_at_rights(aws, True)
