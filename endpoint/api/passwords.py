"""HTTP Basic: how browsers and Prometheus log in, who sign nothing."""

from __future__ import annotations

import base64
import binascii


def login_of(authorization: str) -> tuple[str, str] | None:
    """Name and password in an ``Authorization`` header; None if it is of another kind, or broken.

    As RFC 7617 has it, in UTF-8.
    """
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = (
            base64.b64decode(given.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
