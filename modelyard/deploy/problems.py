"""What went wrong with AWS or the container engine, and what to do about it."""

from __future__ import annotations

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

_NO_CREDENTIALS = (
    "there are no AWS credentials: run `aws configure` or `aws sso login`, or set AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_NO_REGION = "no region is set: give --region, or set AWS_REGION"
_REFUSED_KEYS = "AWS does not know these credentials: set AWS_PROFILE, or run `aws configure`"
_EXPIRED = "these credentials have expired: run `aws sso login`, or get new ones"
_DENIED = "deploy/iam/deployer.json has the rights that a deployment takes"

# By the code of AWS's error; the words of AWS stand before them.
_ADVICE = {
    "UnrecognizedClientException": _REFUSED_KEYS,
    "InvalidClientTokenId": _REFUSED_KEYS,
    "InvalidAccessKeyId": _REFUSED_KEYS,
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "InvalidSignatureException": "the secret key is not that of the access key, or the clock of "
    "this machine is wrong",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "UnauthorizedOperation": _DENIED,
    "ResourceLimitExceeded": "ask for a higher quota (Service Quotas, Amazon SageMaker), or take "
    "another --instance-type",
    "NoSuchBucket": "there is no such bucket: create it, or mend --models",
}
# By AWS's words, where its code does not tell.
_ADVICE_FOR_WORDS = (
    (
        re.compile("Unsupported manifest media type"),
        "the image is an index of manifests: build it with --provenance=false, or by "
        "./scripts/image",
    ),
    (
        re.compile("does not contain required .* label"),
        "SageMaker takes for many models only images with this label; those of ./scripts/image "
        "have it",
    ),
    (
        re.compile("Could not assume role|is not authorized to perform: iam:PassRole"),
        "--role must be a role of this account that sagemaker.amazonaws.com may assume "
        "(deploy/iam/trust.json) and that you may pass to it (iam:PassRole)",
    ),
    (
        re.compile("Could not access model data"),
        "the role needs s3:GetObject below --models and s3:ListBucket of the bucket: "
        "deploy/iam/execution-role.json",
    ),
    (re.compile("is not authorized to perform"), _DENIED),
)


class DeployError(Exception):
    """Raised with what the user is told; ``code`` is the exit code: 2 if nothing was begun."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: ClientError) -> str:
    """AWS's code, such as AccessDeniedException."""
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


def problem_of(error: ClientError | BotoCoreError) -> DeployError:
    """In words: what AWS says, and what to do."""
    if isinstance(error, ClientError):
        return DeployError(_with_advice(error))
    match error:
        case NoCredentialsError():
            text = _NO_CREDENTIALS
        case NoRegionError():
            text = _NO_REGION
        case ProfileNotFound() | PartialCredentialsError():
            text = f"{error}\n{_NO_CREDENTIALS}"
        case InvalidRegionError():
            text = f"{error}\n{_NO_REGION}"
        case EndpointConnectionError():
            text = f"{error}: is the region right (--region), and is there a network?"
        case _:
            return DeployError(str(error))
    return DeployError(text, 2)


def _with_advice(error: ClientError) -> str:
    told = error.response.get("Error", {})
    words = f"{error.operation_name}: {told.get('Message') or code_of(error)}"
    for pattern, advice in _ADVICE_FOR_WORDS:
        if pattern.search(words):
            return f"{words}\n{advice}"
    advice = _ADVICE.get(code_of(error), "")
    return f"{words}\n{advice}" if advice else words
