"""Smithy's RPC v2 with CBOR, as boto3 speaks it today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import cbor2
from aiohttp import web
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from endpoint.api.answers import REQUEST_ID
from endpoint.api.cloudwatch.faults import QUERY_ERROR, fault_of
from endpoint.errors import ApiError, SerializationException

PREFIX = "/service/GraniteServiceVersion20100801/operation/"

_HEADERS = (("smithy-protocol", "rpc-v2-cbor"), ("Content-Type", "application/cbor"))
_SECONDS = 1  # the tag of times

# Requests are flatter by far.
_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Cbor:
    """A request whose path names ``named``."""

    named: str

    def operation(self, body: bytes) -> str:
        """Named by the path."""
        return self.named

    def members(self, body: bytes, operation: OperationModel) -> Any:
        """The body; none at all is a request without members."""
        if not body:
            return {}
        try:
            found = cbor2.loads(body, max_depth=_DEPTH, strict_hashable_types=True)
            return _plain(found)
        except (cbor2.CBORError, RecursionError, ValueError) as error:
            raise SerializationException(f"The request's body is not CBOR: {error}") from error

    def result(
        self, content: dict[str, Any], operation: OperationModel, request_id: str
    ) -> web.Response:
        """The content, with times that are known for such."""
        body = cbor2.dumps(_tagged(operation.output_shape, content))
        return web.Response(body=body, headers=[(REQUEST_ID, request_id), *_HEADERS])

    def failure(self, error: ApiError, request_id: str) -> web.Response:
        """With the query protocol's code in a header."""
        fault = fault_of(error)
        body = cbor2.dumps({"__type": fault.code, "message": fault.message})
        headers = [(REQUEST_ID, request_id), (QUERY_ERROR, fault.query_error), *_HEADERS]
        return web.Response(status=fault.status, body=body, headers=headers)


def _plain(value: Any) -> Any:
    """Times as seconds since 1970. Raises RecursionError for what contains itself."""
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case datetime():
            return value.timestamp()
    return value


def _tagged(shape: Shape, value: Any) -> Any:
    match shape:
        case StructureShape():
            return {name: _tagged(shape.members[name], item) for name, item in value.items()}
        case ListShape():
            return [_tagged(shape.member, item) for item in value]
        case MapShape():
            return {key: _tagged(shape.value, item) for key, item in value.items()}
    return cbor2.CBORTag(_SECONDS, value) if shape.type_name == "timestamp" else value
