"""A container that does what its test says: ``python -m tests.endpoint.containers.stub``.

Without orders it follows the contract: models are directories, an invoke echoes what it saw. It
listens on 127.0.0.1, port ``SAGEMAKER_BIND_TO_PORT`` (0: a free one, printed first), with one model
or many as ``SAGEMAKER_MULTI_MODEL`` says. ``Options`` come as variables, ``STUB_ROOM=3``, and can
be changed at any time over its side door, as can its ``Rule``s (``STUB_RULES``). How tests start it
and speak to it: ``running.py``. It uses nothing but the standard library, to start quickly.

An echo is JSON: ``model``, ``url``, ``says`` (the model's file of that name, as it was when it was
loaded), ``headers`` (pairs), ``body`` (as Latin-1), ``pid``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.endpoint.containers.contract import Answer, Contract, Request, of_json
from tests.endpoint.containers.orders import Options, Rule, options_of

SIDE_DOOR = "/_"


class Stub:
    """All that the container knows; every method may be called by any thread."""

    def __init__(self, options: Options, rules: list[Rule], *, multi_model: bool) -> None:
        self.contract = Contract(options, multi_model=multi_model)
        self.rules = rules
        self.seen: list[Request] = []
        self.changed = threading.Condition()

    def answer(self, request: Request) -> Answer:
        with self.changed:
            return self.contract.answer(request)

    def forget(self, model: str) -> None:
        with self.changed:
            self.contract.models.pop(model, None)

    def rule_for(self, on: str, model: str) -> Rule | None:
        """The first that matches; it has one time less."""
        with self.changed:
            for rule in self.rules:
                if rule.matches(on, model):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None

    def wait_for_release(self, rule: Rule) -> None:
        """Until the rule is there no more."""
        with self.changed:
            self.changed.wait_for(lambda: not any(rule is other for other in self.rules))

    def saw(self, request: Request) -> None:
        with self.changed:
            self.seen.append(request)
            self.changed.notify_all()

    def side_door(self, path: str, query: Mapping[str, str], order: Any) -> Any:
        """Orders and questions of tests; ``running.py`` is their list."""
        with self.changed:
            match path.removeprefix(SIDE_DOOR):
                case "seen":
                    self.changed.wait_for(
                        lambda: len(self._seen(query)) >= int(query["count"]),
                        float(query["timeout"]),
                    )
                    return [asdict(request) for request in self._seen(query)]
                case "rule":
                    self.rules.append(Rule(**order))
                case "release":
                    self.rules = [rule for rule in self.rules if order not in (rule.on, "*")]
                case "options":
                    for name, value in order.items():
                        setattr(self.contract.options, name, value)
                case "forget":
                    del self.contract.models[order]
                case "exit":
                    os._exit(order)
            self.changed.notify_all()
            return sorted(self.contract.models)

    def _seen(self, query: Mapping[str, str]) -> list[Request]:
        return [request for request in self.seen if query["on"] in (request.on, "*")]


class Handler(BaseHTTPRequestHandler):
    """HTTP for the one Stub of its server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def serve(self) -> None:
        stub = self.server.stub
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith(SIDE_DOOR):
            order = json.loads(body) if body else None
            self.wfile.write(of_json(200, stub.side_door(parts.path, query, order)).raw())
            return
        on, model = stub.contract.route(self.command, parts.path)
        request = Request(
            on, model, self.command, self.path, query, self.headers.items(), body.decode("latin-1")
        )
        if on == "load":
            order = json.loads(body)
            request.model, request.url = order["model_name"], order["url"]
        stub.saw(request)
        self.obey(stub.rule_for(on, request.model), request)

    do_GET = do_POST = do_DELETE = serve

    def obey(self, rule: Rule | None, request: Request) -> None:
        """Do as the rule says, or as the contract does."""
        stub = self.server.stub
        do = rule.do if rule else ""
        if rule and do == "answer":
            answer = Answer(rule.status, rule.text.encode(), "text/plain", rule.headers)
        elif rule and do == "large":
            answer = Answer(200, b"x" * rule.bytes)
        else:
            if rule and do == "hang":
                stub.wait_for_release(rule)
            elif do == "forget":
                stub.forget(request.model)
            answer = stub.answer(request)
            if rule and do == "late":
                stub.wait_for_release(rule)
        raw = answer.raw(chunked=bool(rule and rule.chunked))
        self.send(raw, do)
        if rule and do == "again":
            stub.wait_for_release(rule)
            self.send(raw, do)
            stub.saw(replace(request, on="again"))

    def send(self, raw: bytes, do: str) -> None:
        """Send it, or as much of it as is to be."""
        head = raw.index(b"\r\n\r\n") + 4
        half = head + (len(raw) - head) // 2
        sent = {
            "garbage": b"\x16\x03 what? \r\n\r\n",
            "break": b"",
            "cut": raw[:half],
            "cut_head": raw[:10],
            "die": raw[:half],
        }.get(do, raw)
        try:
            self.wfile.write(sent)
        except OSError:  # nobody waits for it any more
            self.close_connection = True
        if do == "die":
            os._exit(1)
        if do in ("garbage", "break", "cut", "cut_head", "close"):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """The output of a container is for its tests: nothing comes of itself."""


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    stub: Stub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up at any time; what else goes wrong is to be seen."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    options = options_of(os.environ)
    rules = [Rule(**rule) for rule in json.loads(os.environ.get("STUB_RULES", "[]"))]
    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.ignores_sigterm else leave)
    if options.exits is not None:
        sys.stderr.write("this container does not start\n")
        sys.exit(options.exits)
    address = ("127.0.0.1", int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")))
    server = Server(address, Handler, bind_and_activate=False)
    server.server_bind()
    if options.listens:
        server.server_activate()
    multi_model = os.environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
    server.stub = Stub(options, rules, multi_model=multi_model)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    if not options.listens:
        signal.pause()
    server.serve_forever()


def leave(number: int, frame: object) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
