"""The page's files, its feed of an endpoint that runs, and what ends it."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from endpoint.api.web_pages import MOST_VIEWERS
from tests.endpoint.api.running import RunningApi
from tests.endpoint.page.feed_parts import models_of, viewing
from tests.endpoint.user import until
from tests.endpoint.yard import ROOT, Yard

STATIC = ROOT / "endpoint/page/static"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[RunningApi]:
    running = RunningApi(tmp_path)
    yield running
    running.close()


@pytest.fixture
def browser(api: RunningApi) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, trust_env=False, timeout=30) as client:
        yield client


# --- files --------------------------------------------------------------------------------------


def test_the_page_takes_nothing_from_elsewhere(browser: httpx.Client) -> None:
    answer = browser.get("/ui")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
    ):
        assert rule in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in answer.text
    assert "http://" not in answer.text.replace("http://www.w3.org/", "")
    assert "https://" not in answer.text


def test_what_the_page_loads_is_there(browser: httpx.Client) -> None:
    names = {path.name for path in STATIC.iterdir()}
    assert {"page.html", "page.css", "page.js"} <= names
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
    for name in names:
        answer = browser.get(f"/ui/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(types.get(Path(name).suffix, ""))


def test_what_has_not_changed_is_not_sent_again(browser: httpx.Client) -> None:
    first = browser.get("/ui")
    again = browser.get("/ui", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = browser.get("/ui", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize(
    "path", ["/ui/nothing.js", "/ui/../server.py", "/ui/%2e%2e/files.py", "/ui//etc/passwd", "/uix"]
)
def test_there_are_no_other_files(api: RunningApi, path: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            assert answer.status == 404
            answer.read()


def test_a_browser_is_led_to_the_page_and_an_sdk_is_not(browser: httpx.Client) -> None:
    for path in ("/", "/ui/"):
        answer = browser.get(path, headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (302, "/ui")
    assert browser.get("/").status_code == 404


# --- the feed -----------------------------------------------------------------------------------


def test_all_who_view_see_what_happens(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard, viewing(yard.url) as one, viewing(yard.url) as other:
        for page in (one, other):
            assert page.next()[0] == "status"
            assert page.document["endpoints"] == []
        yard.endpoint(yard.variant())
        yard.add("m.tar.gz", says="hello")
        yard.invoke()
        for page in (one, other):
            page.until(lambda page=page: "m.tar.gz" in models_of(page.document))  # type: ignore[misc]
            page.until(lambda page=page: "load" in page.kinds())  # type: ignore[misc]
        with viewing(yard.url) as late:
            assert late.next()[0] == "status"
            assert models_of(late.document)["m.tar.gz"]["state"] == "loaded"
            assert "load" in late.kinds()


def test_who_views_sees_an_instance_die_and_another_come(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.endpoint(yard.variant())
        yard.add("m.tar.gz", says="hello")
        yard.invoke()
        with viewing(yard.url) as page:
            page.until(lambda: models_of(page.document))
            (pid,) = yard.processes()
            os.kill(pid, signal.SIGKILL)
            page.until(lambda: "instance_lost" in page.kinds())
            page.until(lambda: page.kinds().count("instance_started") == 2)
            page.until(lambda: not models_of(page.document))
            yard.invoke()
            page.until(lambda: models_of(page.document))


def test_a_feed_ends_with_the_server_which_waits_for_none(api: RunningApi) -> None:
    head = b"GET /ui/feed HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with viewing(api.url) as page, socket.create_connection(("127.0.0.1", api.port)) as silent:
        silent.sendall(head)
        page.next()
        asyncio.run_coroutine_threadsafe(api.server.stop(600), api.loop).result(30)
        assert page.answer.read() == b""  # in order: http.client tells a feed that was cut off


def test_nor_for_one_that_takes_nothing(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = threading.Semaphore(0)

    async def large(since: int) -> Any:
        looks.release()
        endpoint = {"name": "e", "filling": "x" * (32 << 20)}
        return {"time": 0.0, "endpoints": [endpoint], "events": []}

    monkeypatch.setattr(api.backend, "seen", large)
    with socket.create_connection(("127.0.0.1", api.port)) as silent:
        silent.sendall(b"GET /ui/feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(2):  # at the second look it has been sent more than any buffer holds
            assert looks.acquire(timeout=30)
        asyncio.run_coroutine_threadsafe(api.server.stop(600), api.loop).result(30)


def test_there_is_a_most_of_viewers(api: RunningApi, browser: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            stack.enter_context(viewing(api.url))
        answer = browser.get("/ui/feed")
        assert answer.status_code == 503
        assert f"{MOST_VIEWERS} browsers view this page" in answer.json()["Message"]
    until(lambda: can_view(api))


def can_view(api: RunningApi) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
        connection.request("GET", "/ui/feed")
        with connection.getresponse() as answer:
            return answer.status == 200
