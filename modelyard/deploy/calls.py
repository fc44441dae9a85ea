"""AWS as the steps see it: some calls ask, others change, and a dry run prints the latter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from shlex import quote
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

from modelyard.deploy.problems import code_of

# An invoke that loads a model may take a minute.
_READ_SECONDS = 75.0
_ATTEMPTS = 3

_NOT_THERE = frozenset(
    {"RepositoryNotFoundException", "ImageNotFoundException", "ObjectNotFoundException", "404"}
)


class Calls:
    """Calls of one region, by boto3. All raise ClientError and BotoCoreError.

    ``show`` gets each change of a dry run as a line of the AWS CLI.
    """

    def __init__(self, region: str | None, *, dry_run: bool, show: Callable[[str], None]) -> None:
        session = boto3.Session(region_name=region or None)
        if not session.region_name:
            raise NoRegionError
        if session.get_credentials() is None:
            raise NoCredentialsError
        self.region: str = session.region_name
        self.dry_run = dry_run
        self.show = show
        self._client = cache(lambda service: session.client(service, config=_config()))

    def is_aws(self, service: str) -> bool:
        """Whether a service is AWS's own; else it is one beside a local endpoint."""
        url: str = self._client(service).meta.endpoint_url
        return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def reaches(self, service: str) -> bool:
        """Whether a service is of the same side as SageMaker: a local endpoint has no others."""
        return self.is_aws("sagemaker") or not self.is_aws(service)

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """What ``operation`` answers, which changes nothing."""
        answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
        return answer

    def find(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """The same, None where there is no such thing."""
        try:
            return self.ask(service, operation, **parameters)
        except ClientError as error:
            if _is_not_there(error):
                return None
            raise

    def pages(
        self, service: str, operation: str, member: str, **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        """All that the pages of an answer list in ``member``."""
        paginator = self._client(service).get_paginator(operation)
        for page in paginator.paginate(**parameters):
            yield from page[member]

    def change(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Do it, and return the answer; in a dry run print it, and return {}."""
        if self.dry_run:
            self.show(self.line(service, operation, parameters))
            return {}
        return self.ask(service, operation, **parameters)

    def remove(self, service: str, operation: str, **parameters: Any) -> bool:
        """Change what may be gone already; returns whether it was there."""
        try:
            self.change(service, operation, **parameters)
        except ClientError as error:
            if _is_not_there(error):
                return False
            raise
        return True

    def line(self, service: str, operation: str, parameters: dict[str, Any]) -> str:
        """The call in the words of the AWS CLI, for a shell."""
        command = f"aws {service} {operation.replace('_', '-')} --region {self.region}"
        return f"{command} --cli-input-json {quote(json.dumps(parameters))}"


def _config() -> Config:
    retries = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
    return Config(retries=retries, connect_timeout=10.0, read_timeout=_READ_SECONDS)


def _is_not_there(error: ClientError) -> bool:
    """SageMaker tells a name that nobody has as any other wrong request, but for the words."""
    if code_of(error) in _NOT_THERE:
        return True
    message = error.response.get("Error", {}).get("Message", "")
    return code_of(error) == "ValidationException" and message.startswith("Could not find")
