"""NextToken: where a page ended, and of which request it was."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from endpoint.errors import InvalidNextToken

# What may differ between the requests for two pages of the same.
_OF_PAGES = ("NextToken", "MaxDatapoints")


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    request: str
    end: msgspec.Raw


def token(request: Mapping[str, Any], end: Any) -> str:
    """``end`` is anything that JSON holds."""
    content = _Token(_digest(request), msgspec.Raw(msgspec.json.encode(end)))
    return base64.urlsafe_b64encode(msgspec.json.encode(content)).decode()


def end_of(request: Mapping[str, Any], kind: Any) -> Any:
    """Where the page before ended, of type ``kind``; None for a request for the first one.

    Raises InvalidNextToken, also for the token of another request.
    """
    if "NextToken" not in request:
        return None
    try:
        data = base64.urlsafe_b64decode(request["NextToken"].encode())
        found = msgspec.json.decode(data, type=_Token)
        end = msgspec.json.decode(found.end, type=kind)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise InvalidNextToken("The NextToken is not one of this endpoint.") from None
    if found.request != _digest(request):
        raise InvalidNextToken(
            "The NextToken is of another request: all but MaxDatapoints must stay as it was."
        )
    return end


def _digest(request: Mapping[str, Any]) -> str:
    """Of all that decides what is on the pages."""
    same = {name: value for name, value in request.items() if name not in _OF_PAGES}
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()[:16]
