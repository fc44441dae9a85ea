"""Which instance a stateful session belongs to.

A client asks for a session with NEW_SESSION. The container begins it by an answer with an id and an
expiry, in a header that containers spell in two ways, and ends it by another header.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from endpoint.invocation import Headers

NEW_SESSION = "NEW_SESSION"

_HEADER = "x-amzn-sagemaker-session-id"
_BEGUN = ("x-amzn-sagemaker-new-session-id", _HEADER)
_ENDED = "x-amzn-sagemaker-closed-session-id"

# Of sessions whose expiry nobody can read.
_DEFAULT_SECONDS = 1200.0
# The oldest are forgotten beyond that.
_MOST = 100_000


def session_of(headers: Headers) -> str:
    """The session that a request names; "" if it is none that has begun."""
    wanted = _value(headers, _HEADER)
    return "" if wanted == NEW_SESSION else wanted


class Sessions:
    """The sessions of one variant."""

    def __init__(self) -> None:
        self._homes: dict[str, tuple[str, float]] = {}  # instance, and until when (since 1970)

    def instance(self, session: str) -> str | None:
        """The id of the instance that has it; None if none does."""
        instance, expires = self._homes.get(session, (None, 0.0))
        if instance is not None and expires < time.time():
            del self._homes[session]
            return None
        return instance

    def note(self, asked: Headers, answered: Headers, instance: str) -> None:
        """What came of a request that may have begun or ended one."""
        if not _value(asked, _HEADER):
            return
        self._homes.pop(_value(answered, _ENDED).partition(";")[0].strip(), None)
        for name in _BEGUN:
            session, _, rest = _value(answered, name).partition(";")
            if session and "expires=" in rest.lower():
                self._homes[session.strip()] = instance, _expiry(rest)
        while len(self._homes) > _MOST:
            del self._homes[next(iter(self._homes))]


def _value(headers: Headers, wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


def _expiry(text: str) -> float:
    try:
        expiry = datetime.fromisoformat(text.partition("=")[2].strip())
    except ValueError:
        return time.time() + _DEFAULT_SECONDS
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp()
