"""``GET /status`` of an endpoint, signed as boto3 signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
import botocore.exceptions
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from modelyard import aws
from modelyard.address import Address

Document = dict[str, Any]

_TIMEOUTS = (5.0, 30.0)
_SERVICE = "sagemaker"
_WORDS = 500


class NoAnswer(Exception):
    """Raised when nobody answers, or not with what runs; the text says what to do."""


class Refused(NoAnswer):
    """Raised when the endpoint does not tell us; asking again would not help."""


class Source:
    """Asks one endpoint; keys are those of the shell."""

    def __init__(self, address: Address) -> None:
        self._url = address.runtime.rstrip("/")
        session = boto3.Session()
        self._region = address.region or session.region_name or "us-east-1"
        found = session.get_credentials()
        self._credentials = found or Credentials(*aws.KEYS.values())
        self._http = URLLib3Session(timeout=_TIMEOUTS)

    @property
    def url(self) -> str:
        """Of the endpoint."""
        return self._url

    def look(self) -> Document:
        """The document as it is now. Raises NoAnswer, and Refused."""
        request = AWSRequest("GET", f"{self._url}/status")
        SigV4Auth(self._credentials, _SERVICE, self._region).add_auth(request)
        try:
            answer = self._http.send(request.prepare())
            status, body = answer.status_code, answer.content
        except botocore.exceptions.BotoCoreError as error:
            raise NoAnswer(f"no answer from {self._url}: {error}") from error
        if status in (400, 401, 403):
            raise Refused(f"{self._url} tells us nothing: {_words(body, status)}")
        if status == 404:
            raise _other(self._url)
        if status != 200:
            raise NoAnswer(f"{self._url} answers {status}: {_words(body, status)}")
        return _document(body, self._url)


def _document(body: bytes, url: str) -> Document:
    """What was answered, if it is the document of an endpoint. Raises Refused."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("endpoints"), list):
        raise _other(url)
    return found


def _other(url: str) -> Refused:
    return Refused(f"{url} is no endpoint of `modelyard up`, by what it answers to GET /status")


def _words(body: bytes, status: int) -> str:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        found = body[:_WORDS].decode("utf-8", "replace")
    if isinstance(found, Mapping):
        found = found.get("message") or found.get("Message")
    return str(found or f"HTTP {status}")[:_WORDS]
