"""The answer that output_fn may return: what the server reads of flask's Response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Response:
    """A body with status, headers and content type."""

    default_mimetype = "application/json"

    def __init__(
        self,
        response: Any = None,
        accept: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        mimetype: str | None = None,
    ) -> None:
        self.response = b"" if response is None else response
        self.status_code = status
        self.headers = dict(headers or {})
        self.content_type = mimetype or accept or self.default_mimetype
        self.mimetype = self.content_type

    def get_data(self) -> bytes:
        """The body."""
        if isinstance(self.response, str):
            return self.response.encode()
        return bytes(self.response)
