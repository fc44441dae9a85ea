"""Answers that SDKs understand: results, and the one place where an exception becomes one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from endpoint.errors import ApiError

JSON = "application/json"
AWS_JSON = "application/x-amz-json-1.1"  # of the control plane

# Not "x-amzn-requestid": botocore does not care, other SDKs' tests do.
REQUEST_ID = "x-amzn-RequestId"


def result(body: bytes, request_id: str, headers: Iterable[tuple[str, str]] = ()) -> web.Response:
    """A success."""
    return web.Response(body=body, headers=[(REQUEST_ID, request_id), *headers])


def document(content: Any, request_id: str, content_type: str = JSON) -> web.Response:
    """A success as JSON; None is an empty body."""
    body = b"" if content is None else msgspec.json.encode(content)
    return result(body, request_id, [("Content-Type", content_type)])


def failure(error: ApiError, request_id: str, content_type: str = JSON) -> web.Response:
    """The answer to a request that failed, for botocore's rest-json and json parsers both."""
    content = error.members()
    if content_type == AWS_JSON:
        content = {"__type": error.code, **content}
    headers = [
        (REQUEST_ID, request_id),
        ("x-amzn-errortype", error.code),
        ("Content-Type", content_type),
    ]
    return web.Response(status=error.status, body=msgspec.json.encode(content), headers=headers)
