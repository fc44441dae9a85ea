"""What a page does with the feed: reads events, and keeps a document up to date with them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

Document = dict[str, Any]

SECONDS = 30.0
_LISTS = ("variants", "coming", "leaving")


def applied(document: Mapping[str, Any], change: Mapping[str, Any]) -> Document:
    """The document after a change."""
    models: dict[str, Document] = {}
    metrics: dict[str, Document] = {}
    for name, variant in variants(document):
        metrics[name] = dict(variant["models"])
        for instance in variant["instances"]:
            models[instance["id"]] = {one["target"]: one for one in instance["models"]}
    for rows, changed in ((models, change["models"]), (metrics, change["metrics"])):
        for name, targets in changed.items():
            found = rows.setdefault(name, {})
            for target, row in targets.items():
                if row is None:
                    del found[target]
                else:
                    found[target] = row
    endpoints = json.loads(json.dumps(change["endpoints"]))
    after = {"time": change["time"], "endpoints": endpoints, "events": change["events"]}
    for name, variant in variants(after):
        variant["models"] = metrics.get(name, {})
        for instance in variant["instances"]:
            instance["models"] = [*models.get(instance["id"], {}).values()]
    return after


def variants(document: Mapping[str, Any]) -> Iterator[tuple[str, Document]]:
    """All of them, with ENDPOINT/VARIANT."""
    for endpoint in document["endpoints"]:
        for key in _LISTS:
            for variant in endpoint.get(key, []):
                yield f"{endpoint['name']}/{variant['name']}", variant


def models_of(document: Mapping[str, Any]) -> dict[str, Document]:
    """All models of all instances, by target."""
    return {
        model["target"]: model
        for _, variant in variants(document)
        for instance in variant["instances"]
        for model in instance["models"]
    }


class Page:
    """A viewer over HTTP."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer
        self.document: Document = {}
        self.events: list[Document] = []

    def next(self) -> tuple[str, Document]:
        """Name and data of the next event, once the document is up to date with it."""
        name, data = self._read()
        self.document = data if name == "status" else applied(self.document, data)
        self.events += data["events"]
        return name, data

    def until(self, what: Callable[[], object]) -> None:
        """Read events until it is so. The connection's timeout ends it, else the test's."""
        while not (self.document and what()):
            self.next()

    def kinds(self) -> list[str]:
        """Of the endpoint's events."""
        return [event["kind"] for event in self.events]

    def _read(self) -> tuple[str, Document]:
        name = ""
        while line := self.answer.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                assert self.answer.readline() == b"\n"
                return name, json.loads(value)
        raise EOFError


@contextmanager
def viewing(url: str, headers: Mapping[str, str] | None = None) -> Iterator[Page]:
    """The feed of the endpoint there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    with closing(connection):
        connection.request("GET", "/ui/feed", headers=dict(headers or {}))
        with connection.getresponse() as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (
                200,
                "text/event-stream; charset=utf-8",
            )
            yield Page(answer)
