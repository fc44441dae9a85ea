"""The multi-model API from a client's side, with the standard library alone.

On SageMaker the platform makes these requests; an application only calls InvokeEndpoint with
``TargetModel``, which arrives at the server as ``POST /models/{name}/invoke``.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from examples.archives import SampleRequest

TIMEOUT_SECONDS = 60.0


class Refused(Exception):
    """Raised for an answer that is an error; the server says in it what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Client:
    """One connection, kept open from request to request."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def is_healthy(self) -> bool:
        """Does the server answer and say that it can take requests?"""
        try:
            self._ask("GET", "/ping")
        except (ConnectionError, Refused):
            self.close()
            return False
        return True

    def metrics(self) -> str:
        """What a Prometheus server would collect."""
        return self._ask("GET", "/metrics").decode()

    def load(self, name: str, model_dir: Path) -> None:
        """Make a model ready. ``name`` is how it will be called; any string will do."""
        body = json.dumps({"model_name": name, "url": str(model_dir)}).encode()
        self._ask("POST", "/models", body, "application/json")

    def invoke(self, name: str, request: SampleRequest) -> bytes:
        """Ask a model; the answer is JSON unless an Accept header says otherwise."""
        return self.ask(name, request.path.read_bytes(), request.content_type)

    def ask(self, name: str, body: bytes, content_type: str) -> bytes:
        """Ask a model with a body of one's own."""
        return self._ask("POST", f"{_path(name)}/invoke", body, content_type)

    def describe(self, name: str) -> dict[str, Any]:
        """State, memory and processes of a model."""
        described: dict[str, Any] = json.loads(self._ask("GET", _path(name)))
        return described

    def names(self) -> list[str]:
        """The models that are loaded."""
        return [model["modelName"] for model in json.loads(self._ask("GET", "/models"))["models"]]

    def unload(self, name: str) -> None:
        """Let a model go, with its processes and memory."""
        self._ask("DELETE", _path(name))

    def close(self) -> None:
        """Hang up; the next request connects again."""
        self._connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> bytes:
        headers = {"Content-Type": content_type} if content_type else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise Refused(response.status, _message(content))
        return content


def _path(name: str) -> str:
    return "/models/" + quote(name, safe="")


def _message(content: bytes) -> str:
    """The sentence in an error of the server, or the body as it is if somebody else answered."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, LookupError, TypeError):
        return content.decode(errors="replace")
