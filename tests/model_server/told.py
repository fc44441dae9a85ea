"""Models with settings of their own, and streams read as they come."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..contract.endpoint import BEHAVIOURS, Endpoint, path_of
from ..contract.raw import RawConnection
from ..contract.server import OwnServer, Server, start, stop_cleanly, wait_until_healthy

_numbers = count(1)
_SMALL_BUFFER = 8192


@contextmanager
def running(models_dir: Path, log: Path, settings: dict[str, str]) -> Iterator[OwnServer]:
    """A healthy server, which must stop cleanly at the end."""
    models_dir.mkdir(exist_ok=True)
    own = start(models_dir, log, {"MODELYARD_MODEL_ROOTS": str(models_dir), **settings})
    try:
        wait_until_healthy(own)
        yield own
        if own.process.poll() is None:
            stop_cleanly(own)
    finally:
        own.kill()


def make(directory: Path, behaviour: str, settings: str = "", **environment: Any) -> Path:
    """A copy of a behaviour, with ``settings`` in its modelyard.toml."""
    made = directory / f"{behaviour}-made-{next(_numbers)}"
    shutil.copytree(BEHAVIOURS / behaviour, made)
    lines = [settings, "[environment]", *(f'{k} = "{v}"' for k, v in environment.items())]
    (made / "modelyard.toml").write_text("\n".join(lines) + "\n")
    return made


def load(endpoint: Endpoint, server: Server, behaviour: str, settings: str = "", **env: Any) -> str:
    """The name of a model of that behaviour, loaded with these settings."""
    made = make(server.models_dir, behaviour, settings, **env)
    response = endpoint.load_url(made.name, str(made))
    assert response.status_code == 200, response.text
    return made.name


def order(*steps: Any, **more: Any) -> bytes:
    """The body that makes ``streams_as_told`` do this."""
    return json.dumps({"steps": steps, **more}, default=str).encode()


class Streaming(RawConnection):
    """A connection whose answers are read chunk by chunk. ``slow`` has small buffers."""

    def __init__(self, server: Server, *, slow: bool = False) -> None:
        parts = urlsplit(server.base_url)
        if not slow:
            super().__init__(parts.hostname or "", parts.port or 80)
            return
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        self._socket.settimeout(40)
        self._socket.connect((parts.hostname or "", parts.port or 80))
        self._reader = self._socket.makefile("rb")

    def ask(self, name: str, body: bytes, *headers: str, version: str = "1.1") -> None:
        """Send an invoke."""
        lines = [f"POST {path_of(name)}/invoke HTTP/{version}", "Host: localhost"]
        lines += [f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers."""
        status = int(self._line().split()[1])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.decode().lower()] = value.strip().decode()
        return status, headers

    def chunk(self) -> bytes:
        """The next chunk, empty at the end. ConnectionError when the stream is cut."""
        return self._chunk()

    def chunks(self) -> bytes:
        """All that are left. ConnectionError when the stream is cut."""
        return b"".join(iter(self._chunk, b""))

    def to_the_close(self) -> bytes:
        """Everything until the server hangs up."""
        return self._reader.read()

    def some(self, count: int) -> int:
        """Read so many bytes, whatever they are."""
        return len(self._reader.read(count))
