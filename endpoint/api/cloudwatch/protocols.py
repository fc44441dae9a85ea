"""The three ways in which clients speak to CloudWatch, and how a request tells which it is.

POST /service/GraniteServiceVersion20100801/operation/{Operation}    cbor.py
POST /  X-Amz-Target: GraniteServiceVersion20100801.{Operation}      aws_json.py
POST /  with a form that names Action                                query.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web
from botocore.model import OperationModel

from endpoint.api.cloudwatch import aws_json, cbor, query
from endpoint.errors import ApiError


class Wire(Protocol):
    """One protocol, for one request. Times are seconds since 1970 on this side of it."""

    def operation(self, body: bytes) -> str:
        """What is asked for. Raises SerializationException, UnknownOperation."""

    def members(self, body: bytes, operation: OperationModel) -> Any:
        """The request, of any form: nothing has been checked. Raises SerializationException."""

    def result(
        self, content: dict[str, Any], operation: OperationModel, request_id: str
    ) -> web.Response:
        """The answer to a request that was done."""

    def failure(self, error: ApiError, request_id: str) -> web.Response:
        """The answer to one that was not."""


def wire_of(method: str, path: str, headers: Mapping[str, str]) -> Wire | None:
    """None for a request that is not one to CloudWatch. ``headers`` are looked up in any case."""
    if method != "POST":
        return None
    if path.startswith(cbor.PREFIX):
        return cbor.Cbor(path.removeprefix(cbor.PREFIX))
    if path != "/":
        return None
    target = headers.get("X-Amz-Target")
    if target is None:
        form = headers.get("Content-Type", "").startswith(query.FORM)
        return query.Query() if form else None
    if target.startswith(aws_json.PREFIX):
        return aws_json.AwsJson(target.removeprefix(aws_json.PREFIX))
    return None
