"""The multi-model contract's requests, as the platform would send them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

BEHAVIOURS = Path(__file__).parent.parent / "models"
_numbers = count(1)


def path_of(name: str) -> str:
    """The path of a model: every character of its name that could mean something is escaped."""
    return "/models/" + quote(name, safe="")


def url_of(models_dir: Path, behaviour: str) -> str:
    """Put the model of that behaviour where the server can see it; returns its directory."""
    directory = models_dir / behaviour
    if not directory.exists():
        shutil.copytree(BEHAVIOURS / behaviour, directory)
    return str(directory)


class Endpoint:
    """Requests to one server; remembers what it tried to load, to clear up after a test.

    Request targets go out exactly as written here: httpx would tidy up ``..`` and the like.
    """

    def __init__(self, client: httpx.Client, models_dir: Path) -> None:
        self._client = client
        self._mine = threading.local()
        self._models_dir = models_dir
        self._tried: set[str] = set()

    def send(self, method: str, target: str, **options: Any) -> httpx.Response:
        """Any request at all."""
        return self._client_of_thread().request(
            method, "/", extensions={"target": target.encode("ascii")}, **options
        )

    def _client_of_thread(self) -> httpx.Client:
        """One for each thread but the main one: its pool closes connections under others' hands."""
        if threading.current_thread() is threading.main_thread():
            return self._client
        if not hasattr(self._mine, "client"):
            self._mine.client = httpx.Client(
                base_url=self._client.base_url,
                timeout=self._client.timeout,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                headers=self._client.headers,
                verify=False,
            )
        mine: httpx.Client = self._mine.client
        return mine

    def ping(self) -> httpx.Response:
        return self.send("GET", "/ping")

    def list_models(self, query: str = "") -> httpx.Response:
        return self.send("GET", f"/models?{query}" if query else "/models")

    def names(self) -> set[str]:
        """The names of all listed models, over all pages."""
        return {entry["modelName"] for page in self.pages() for entry in page}

    def pages(self, limit: int | None = None) -> list[list[dict[str, Any]]]:
        """All pages of the list, following the token as the platform does."""
        first = f"limit={limit}" if limit else ""
        pages, query = [], first
        while True:
            reply = self.list_models(query).json()
            pages.append(reply["models"])
            if "nextPageToken" not in reply:
                return pages
            token = quote(reply["nextPageToken"], safe="")
            query = f"{first}&next_page_token={token}".lstrip("&")

    def get(self, name: str) -> httpx.Response:
        return self.send("GET", path_of(name))

    def url_of(self, behaviour: str) -> str:
        """Where the server can see the model, put there if need be."""
        return url_of(self._models_dir, behaviour)

    def load_url(self, name: Any, url: Any) -> httpx.Response:
        if isinstance(name, str):
            self._tried.add(name)
        return self.send("POST", "/models", json={"model_name": name, "url": url})

    def load(self, behaviour: str, name: str | None = None) -> httpx.Response:
        """Load the model of that behaviour, under its own name if none is given."""
        return self.load_url(behaviour if name is None else name, self.url_of(behaviour))

    def loaded(self, behaviour: str) -> str:
        """A name, never used before, under which that behaviour is now loaded."""
        name = f"{behaviour}-{next(_numbers)}"
        response = self.load(behaviour, name)
        assert response.status_code == 200, response.text
        return name

    def unload(self, name: str) -> httpx.Response:
        return self.send("DELETE", path_of(name))

    def unload_all(self) -> None:
        """Unload what may be loaded: a server can list a model whose load it answered with 507."""
        for name in self._tried:
            self.unload(name)

    def invoke(
        self, name: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = {"Content-Type": "application/octet-stream", **(headers or {})}
        return self.send("POST", path_of(name) + "/invoke", content=body, headers=sent)


def assert_failed_load(response: httpx.Response) -> None:
    """An error, and not one of the two that make the platform do something."""
    assert 400 <= response.status_code < 600, response.text
    assert response.status_code not in (409, 507), response.text


def assert_error(response: httpx.Response, status: int) -> str:
    """Our shape of an error with that status; returns the message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    error = response.json()
    assert error["code"] == status
    assert isinstance(error["type"], str) and error["type"]
    assert isinstance(error["message"], str) and error["message"]
    assert "Traceback" not in response.text
    return str(error["message"])
