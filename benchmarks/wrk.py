"""Runs wrk against one model of one server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.models import Model
from benchmarks.servers import BenchmarkError, Server

SCRIPT = Path(__file__).with_name("wrk.lua")
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Round:
    """What wrk saw: requests per second, and latencies in ms."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Request:
    """A POST that is to be answered with 200."""

    url: str
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def attack(server: Server, model: Model, connections: int, seconds: int) -> Round:
    """Run wrk for so many seconds. A single failed request fails the benchmark."""
    url = f"{server.url}/models/{model.name}/invoke"
    request = Request(url, model.body, model.content_type)
    return post(request, server.directory, connections, seconds)


def post(request: Request, directory: Path, connections: int, seconds: int) -> Round:
    """The same with any request; ``directory`` is scratch space."""
    body = directory / "wrk-body"
    body.write_bytes(request.body)
    size = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    headers = [f"-H{name}: {value}" for name, value in request.headers.items()]
    command = ["wrk", *size, *headers, "-s", str(SCRIPT), request.url]
    done = subprocess.run(
        [*command, "--", str(body), request.content_type],
        capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": 1}
    if found["failed"] or not found["requests"]:
        raise BenchmarkError(f"{request.url}: requests failed: {done.stdout}{done.stderr}")
    rate = found["requests"] / found["microseconds"] * 1e6
    return Round(rate, found["p50"] / 1000, found["p99"] / 1000)
