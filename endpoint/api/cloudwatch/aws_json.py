"""AWS JSON 1.0, as some SDKs speak it to CloudWatch, and boto3 where it knows no CBOR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from botocore.model import OperationModel

from endpoint.api.answers import REQUEST_ID
from endpoint.api.bodies import decoded
from endpoint.api.cloudwatch.faults import QUERY_ERROR, fault_of
from endpoint.errors import ApiError

PREFIX = "GraniteServiceVersion20100801."
_CONTENT_TYPE = "application/x-amz-json-1.0"


@dataclass(frozen=True, slots=True)
class AwsJson:
    """A request whose header names ``target``."""

    target: str

    def operation(self, body: bytes) -> str:
        """Named by the header."""
        return self.target

    def members(self, body: bytes, operation: OperationModel) -> Any:
        """The body as JSON; none at all is a request without members."""
        return decoded(body)

    def result(
        self, content: dict[str, Any], operation: OperationModel, request_id: str
    ) -> web.Response:
        """The content as it is."""
        headers = [(REQUEST_ID, request_id), ("Content-Type", _CONTENT_TYPE)]
        return web.Response(body=msgspec.json.encode(content), headers=headers)

    def failure(self, error: ApiError, request_id: str) -> web.Response:
        """With the query protocol's code in a header."""
        fault = fault_of(error)
        content = {"__type": fault.code, "message": fault.message}
        headers = [
            (REQUEST_ID, request_id),
            (QUERY_ERROR, fault.query_error),
            ("Content-Type", _CONTENT_TYPE),
        ]
        return web.Response(status=fault.status, body=msgspec.json.encode(content), headers=headers)
