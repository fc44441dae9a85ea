"""A container that follows the contract: its models, and what it answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.endpoint.containers.orders import Options

CHUNK = 1 << 16


@dataclass
class Request:
    """What it was asked. ``on`` is what rules call it; ``url`` is that of a load."""

    on: str
    model: str
    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: str
    url: str = ""


@dataclass
class Model:
    """A loaded model."""

    url: str
    says: str


@dataclass
class Answer:
    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self, *, chunked: bool = False) -> bytes:
        """As it goes over the wire."""
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}"
        lines = [f"HTTP/1.1 {self.status} Stub", framing, f"Content-Type: {self.kind}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head + (chunks(self.body) if chunked else self.body)


def chunks(body: bytes) -> bytes:
    parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def of_json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode())


def error(status: int, message: str) -> Answer:
    return of_json(status, {"code": status, "message": message})


def entries_of(urls: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"modelName": name, "modelUrl": url} for name, url in urls.items()]


class Contract:
    """The loaded models; not for several threads at once."""

    def __init__(self, options: Options, *, multi_model: bool) -> None:
        self.options = options
        self.multi_model = multi_model
        self.models: dict[str, Model] = {}
        self.refused: set[str] = set()

    def route(self, method: str, path: str) -> tuple[str, str]:
        """Which of the contract's requests it is, and the model's id."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match (method, parts):
            case "GET", ["ping"]:
                return "ping", ""
            case "POST", ["invocations"]:
                return "invocations", ""
            case _ if not self.multi_model:
                return "unknown", ""
            case "GET", ["models"]:
                return "list", ""
            case "POST", ["models"]:
                return "load", ""
            case "GET", ["models", name]:
                return "get", name
            case "DELETE", ["models", name]:
                return "unload", name
            case "POST", ["models", name, "invoke"]:
                return "invoke", name
        return "unknown", ""

    def answer(self, request: Request) -> Answer:
        """What the contract says; the caller sees to it that there is one at a time."""
        routes: Mapping[str, Callable[[Request], Answer]] = {
            "ping": lambda request: Answer(200),
            "list": self._list,
            "load": self._load,
            "get": self._get,
            "unload": self._unload,
            "invoke": self._invoke,
            "invocations": self._echo,
        }
        route = routes.get(request.on)
        return route(request) if route else error(404, "no such page")

    def _list(self, request: Request) -> Answer:
        known = {*self.models, *self.refused, *self.options.phantoms}
        listed = sorted(known - {*self.options.hidden})
        urls = {name: self.models[name].url if name in self.models else "/gone" for name in listed}
        if self.options.shows == "tensorflow":
            return of_json(200, {name: {"model_version_status": []} for name in listed})
        if self.options.shows == "triton":
            parents = {name: url.removesuffix("/model") for name, url in urls.items()}
            return of_json(200, {"models": [*entries_of(parents), {}]})
        entries = [{**entry, "workers": 1} for entry in entries_of(urls)]
        if self.options.shows == "paged":
            return of_json(200, self._page(entries, int(request.query.get("next_page_token", 0))))
        return of_json(200, {"models": entries})

    def _page(self, entries: list[Any], start: int) -> dict[str, Any]:
        end = start + self.options.page_size
        page: dict[str, Any] = {"models": entries[start:end]}
        if end <= len(entries):  # as multi-model-server does: at the very end there is one more
            page["nextPageToken"] = str(end)
        return page

    def _load(self, request: Request) -> Answer:
        directory = Path(request.url)
        if request.model in self.models or request.model in self.refused:
            return self._error(409, f"{request.model} is loaded already")
        if self.options.room is not None and len(self.models) >= self.options.room:
            if self.options.keeps_refused:
                self.refused.add(request.model)
            return self._error(507, f"no memory for {request.model}")
        if not directory.is_dir():
            return self._error(400, f"{directory} is not a directory")
        says = directory / "says"
        self.models[request.model] = Model(
            str(directory), says.read_text() if says.exists() else ""
        )
        return self._done("loaded")

    def _get(self, request: Request) -> Answer:
        if request.model not in self.models:
            return self._error(404, f"{request.model} is not loaded")
        return of_json(
            200, {"modelName": request.model, "modelUrl": self.models[request.model].url}
        )

    def _unload(self, request: Request) -> Answer:
        if request.model in self.refused:
            self.refused.remove(request.model)
        elif self.models.pop(request.model, None) is None:
            return self._error(404, f"{request.model} is not loaded")
        return self._done("unloaded")

    def _invoke(self, request: Request) -> Answer:
        if request.model in self.refused:
            return self._error(503, f"no worker is available for {request.model}")
        if request.model not in self.models:
            return self._error(404, f"{request.model} is not loaded")
        return self._echo(request)

    def _done(self, what: str) -> Answer:
        if self.options.shows == "triton":
            return Answer(200)
        return of_json(200, {"success" if self.options.shows == "tensorflow" else "status": what})

    def _error(self, status: int, message: str) -> Answer:
        if self.options.shows in ("triton", "tensorflow"):
            return of_json(status, {"error": message})
        return error(status, message)

    def _echo(self, request: Request) -> Answer:
        known = asdict(self.models.get(request.model, Model("", "")))
        seen = {"headers": request.headers, "body": request.body}
        return of_json(200, {"model": request.model, **known, **seen, "pid": os.getpid()})
