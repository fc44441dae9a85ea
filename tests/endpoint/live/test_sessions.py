"""Which instance a session belongs to."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from endpoint.live.sessions import Sessions, session_of

NEW = (("X-Amzn-SageMaker-Session-Id", "NEW_SESSION"),)


def asks(session: str) -> tuple[tuple[str, str], ...]:
    return (("X-Amzn-SageMaker-Session-Id", session),)


def begun(session: str, minutes: float, header: str = "New-Session-Id") -> list[tuple[str, str]]:
    expires = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [(f"X-Amzn-SageMaker-{header}", f"{session}; Expires={expires}")]


def test_a_request_for_a_new_session_names_none_yet() -> None:
    assert session_of(NEW) == ""
    assert session_of(()) == ""
    assert session_of(asks("abc")) == "abc"


@pytest.mark.parametrize("header", ["New-Session-Id", "Session-Id"])
def test_a_session_belongs_to_the_instance_that_began_it(header: str) -> None:
    sessions = Sessions()
    sessions.note(NEW, tuple(begun("abc", 5, header)), "one")
    assert sessions.instance("abc") == "one"
    assert sessions.instance("other") is None


def test_a_closed_session_belongs_to_nobody() -> None:
    sessions = Sessions()
    sessions.note(NEW, tuple(begun("abc", 5)), "one")
    sessions.note(asks("abc"), (("x-amzn-sagemaker-closed-session-id", "abc"),), "one")
    assert sessions.instance("abc") is None


def test_an_expired_session_belongs_to_nobody() -> None:
    sessions = Sessions()
    sessions.note(NEW, tuple(begun("abc", -1)), "one")
    assert sessions.instance("abc") is None


def test_an_expiry_without_a_zone_is_universal_time_wherever_the_endpoint_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        past = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
        sessions = Sessions()
        header = ("X-Amzn-SageMaker-New-Session-Id", f"abc; Expires={past}")
        sessions.note(NEW, (header,), "one")
        assert sessions.instance("abc") is None
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_expiry_that_nobody_can_read_is_not_now() -> None:
    sessions = Sessions()
    sessions.note(NEW, (("X-Amzn-SageMaker-New-Session-Id", "abc; Expires=soon"),), "one")
    assert sessions.instance("abc") == "one"


def test_an_answer_to_a_request_without_session_begins_none() -> None:
    sessions = Sessions()
    sessions.note((), tuple(begun("abc", 5)), "one")
    assert sessions.instance("abc") is None


def test_an_echo_of_the_id_begins_none() -> None:
    sessions = Sessions()
    sessions.note(asks("abc"), asks("abc"), "one")
    assert sessions.instance("abc") is None
