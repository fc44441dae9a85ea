"""An endpoint that answers as AWS does where ours cannot be brought to: a server in a thread.

It says nothing of loading waits, and describes nothing: whoever asks is refused.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self


class Reply(NamedTuple):
    """Without ``code`` it is a success."""

    status: int = 200
    code: str = ""
    message: str = ""


OK = Reply()
NOT_READY = Reply(429, "ModelNotReadyException", "Model m is not ready for inference.")
THROTTLED = Reply(400, "ThrottlingException", "Rate exceeded")
GONE = Reply(400, "ValidationError", "Endpoint ep of account 000000000000 not found.")

# Given the number of a request, from 1, and its model.
Decide = Callable[[int, str], Reply]


class AwsLike:
    """``decide`` says what becomes of each request."""

    def __init__(self, decide: Decide) -> None:
        self.seen: Counter[str] = Counter()  # requests by model
        self._decide = decide
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reply(self, model: str) -> Reply:
        """To one more request for a model."""
        with self._lock:
            self.seen[model] += 1
            number = self.seen.total()
        return self._decide(number, model)


def _handler(server: AwsLike) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Each request has a connection of its own, so that none is left at the end."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/invocations"):
                target = self.headers.get("X-Amzn-SageMaker-Target-Model", "")
                self.answer(server.reply(target))
            else:
                self.answer(Reply(400, "AccessDeniedException", "You may not describe it."))

        def answer(self, reply: Reply) -> None:
            # The control plane's errors are named in the body, those of InvokeEndpoint in the head.
            words = {"__type": reply.code, "Message": reply.message}
            content = json.dumps(words).encode() if reply.code else b"fine"
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content)))
            if reply.code:
                self.send_header("x-amzn-errortype", reply.code)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to tell."""

    return Handler
