"""What a browser sends for a web page of somebody else is refused, on every route."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path

import pytest

from endpoint.api.foreign import ForeignPages
from endpoint.errors import AccessDenied
from endpoint.settings import EndpointSettings
from tests.endpoint.api.running import RunningApi

ROUTES = [
    ("POST", "/endpoints/ep/invocations"),
    ("POST", "/"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/ping"),
    ("GET", "/ui"),
    ("GET", "/ui/feed"),
    ("OPTIONS", "/status"),
]


def asked(api: RunningApi, method: str, path: str, **headers: str) -> tuple[int, str]:
    """Status, and the message if it was refused."""
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        with connection.getresponse() as answer:
            refused = answer.status == 403
            return answer.status, json.loads(answer.read())["Message"] if refused else ""


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_other_pages(api: RunningApi, method: str, path: str) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        status, message = asked(api, method, path, Origin=origin)
        assert (status, origin in message) == (403, True)
    status, message = asked(api, method, path, Host="evil.example")
    assert status == 403
    assert "call it localhost or 127.0.0.1" in message
    assert api.backend.invocations == []


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_this_machine_has_several_names(api: RunningApi, name: str) -> None:
    for host in (name, f"{name}:{api.port}"):
        assert asked(api, "GET", "/status", Host=host)[0] == 200
        assert asked(api, "GET", "/status", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host",
    ["localhost.evil.example", "127.0.0.1.evil.example", "::1", "10.0.0.1", "", "x@127.0.0.1"],
)
def test_others_look_like_it(api: RunningApi, host: str) -> None:
    assert asked(api, "GET", "/status", Host=host)[0] == 403


def test_what_a_page_loads_without_saying_who_it_is_is_refused(api: RunningApi) -> None:
    for site in ("cross-site", "same-site"):
        asking = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"}
        assert asked(api, "GET", "/status", **asking)[0] == 403
    own = {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    assert asked(api, "GET", "/status", **own)[0] == 200


def test_a_link_may_lead_here(api: RunningApi) -> None:
    asking = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert asked(api, "GET", "/ui", **asking)[0] == 200


def test_where_others_reach_it_it_may_have_any_name() -> None:
    reached = ForeignPages(EndpointSettings(host="0.0.0.0"))
    reached.check({"Host": "modelyard:8181"})
    reached.check({"Host": "modelyard:8181", "Origin": "https://modelyard:8181"})
    with pytest.raises(AccessDenied):
        reached.check({"Host": "modelyard:8181", "Origin": "http://elsewhere:8181"})
    with pytest.raises(AccessDenied):
        reached.check({"Origin": "http://"})


def test_published_on_loopback_it_has_the_names_of_its_machine_only() -> None:
    published = ForeignPages(EndpointSettings(host="0.0.0.0", published_on_loopback=True))
    published.check({"Host": "127.0.0.1:8181"})
    with pytest.raises(AccessDenied):
        published.check({"Host": "modelyard:8181"})


def test_where_there_are_keys_a_proxy_may_have_any_name(tmp_path: Path) -> None:
    ForeignPages(EndpointSettings(access_file="keys")).check({"Host": "models.example"})
