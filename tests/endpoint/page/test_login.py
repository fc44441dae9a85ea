"""Browsers and Prometheus log in with a key's id and secret, where there is an access file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.endpoint.api.running import RunningApi
from tests.endpoint.page.feed_parts import viewing

KEYS: list[dict[str, Any]] = [
    {"access_key_id": "AKALL", "secret_access_key": "s:ecret/ä"},
    {
        "access_key_id": "AKSTATUS",
        "secret_access_key": "status",
        "actions": ["sagemaker:GetStatus"],
    },
    {"access_key_id": "AKTENANT", "secret_access_key": "tenant", "target_models": ["a/*"]},
]
PAGES = ["/ui", "/ui/page.js", "/ui/feed", "/ui/nothing"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    directory = tmp_path_factory.mktemp("login")
    file = directory / "access.json"
    file.write_text(json.dumps({"keys": KEYS}))
    running = RunningApi(directory, access_file=str(file))
    yield running
    running.close()


@pytest.fixture
def browser(api: RunningApi) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("login", [("AKALL", "s:ecret/ä"), ("AKSTATUS", "status")])
def test_with_a_key_there_is_the_page(
    api: RunningApi, browser: httpx.Client, login: tuple[str, str]
) -> None:
    auth = httpx.BasicAuth(*(part.encode() for part in login))
    for path in ("/ui", "/status"):
        assert browser.get(path, auth=auth).status_code == 200
    request = browser.build_request("GET", "/ui/feed")
    header = next(auth.sync_auth_flow(request)).headers["Authorization"]
    with viewing(api.url, {"Authorization": header}) as page:
        assert page.next()[0] == "status"


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "login", [None, ("AKALL", "wrong"), ("AKALL", ""), ("nobody", ""), ("AKTENANT", "tenant")]
)
def test_without_one_the_browser_asks_for_it(
    browser: httpx.Client, path: str, login: tuple[str, str] | None
) -> None:
    answer = browser.get(path, auth=login)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="Modelyard", charset="UTF-8"'
    assert "allowed sagemaker:GetStatus" in answer.text


def test_other_clients_are_told_as_ever(browser: httpx.Client) -> None:
    for auth, code in (
        (None, "MissingAuthenticationTokenException"),
        (("AKALL", "wrong"), "UnrecognizedClientException"),
        (("AKTENANT", "tenant"), "AccessDeniedException"),
    ):
        answer = browser.get("/status", auth=auth)
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (403, code)
        assert "www-authenticate" not in answer.headers


def test_a_password_is_good_for_looking_only(browser: httpx.Client) -> None:
    answer = browser.post("/endpoints/ep/invocations", auth=("AKSTATUS", "status"))
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (
        403,
        "InvalidSignatureException",
    )


@pytest.mark.parametrize("given", ["Basic", "Basic !", "Basic QQ==", "Basic /w==", "Basic Og=="])
def test_what_is_no_login_is_refused(browser: httpx.Client, given: str) -> None:
    for path, status in (("/ui", 401), ("/status", 403)):
        assert browser.get(path, headers={"Authorization": given}).status_code == status
