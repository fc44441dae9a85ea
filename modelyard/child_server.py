"""A real server for the time of one command, in a process of its own.

It listens on a free port of 127.0.0.1 and ends with us, however we end: it holds our lifeline as
its own children hold its. Run as a module this file is that process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from container import entrypoint
from model_server.processes import lifeline

_KEPT_EVENTS = 2000
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LISTENING = "listening on "


class ServerDidNotStart(Exception):
    """Raised with what the server said when it ended before it listened."""


class ChildServer:
    """A running server; a context manager that ends it. ``port`` is where it listens."""

    def __init__(self, options: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start with the options of ``serve``. Raises ``ServerDidNotStart``."""
        self.port = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT_EVENTS)
        self._settled = threading.Event()
        self._lifeline = lifeline.Lifeline()
        command = [sys.executable, "-P", "-m", "modelyard.child_server"]
        ours = ["--host", "127.0.0.1", "--port", "0", "--log-format", "json", "--log-level", "INFO"]
        self._process = subprocess.Popen(
            [*command, str(self._lifeline.read_fd), *ours, *options],
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._lifeline.read_fd],
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self._wait_until_listening()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def events(self, model: str | None = None) -> list[dict[str, Any]]:
        """What was logged; of one model, or all."""
        return [event for event in list(self._events) if model in (None, event.get("model"))]

    def close(self) -> None:
        """Stop the server and wait for it; at once if it takes too long."""
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._lifeline.close()  # ends whoever is left
            self._process.wait()
            self._reader.join(2.0)  # a process that left its session may hold the log open

    def _wait_until_listening(self) -> None:
        self._settled.wait(_START_SECONDS)
        if self.port == 0:
            said = [str(event["message"]) for event in self.events()]
            raise ServerDidNotStart("\n".join(said[-20:]) or "it said nothing")

    def _read_log(self) -> None:
        """In a thread: note what is logged, and where the server listens."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                event = _event(line.decode("utf-8", "replace").rstrip("\n"))
                self._events.append(event)
                message = str(event["message"])
                if not self._settled.is_set() and message.startswith(_LISTENING):
                    address = message.removeprefix(_LISTENING).partition(",")[0]
                    self.port = int(address.rpartition(":")[2])
                    self._settled.set()
        self._settled.set()


def _event(line: str) -> dict[str, Any]:
    """A line of the log; what is none, such as an interpreter's last words, as if it were."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) and "message" in event else {"message": line}


def _main(lifeline_fd: str, *options: str) -> int:
    lifeline.arm(int(lifeline_fd))
    os.close(int(lifeline_fd))
    return entrypoint.run(options)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
