"""Runs wrk against one model of one server."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
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


def attack(server: Server, model: Model, connections: int, seconds: int) -> Round:
    """Run wrk for so many seconds. A single failed request fails the benchmark."""
    body = server.directory / "wrk-body"
    body.write_bytes(model.body)
    url = f"{server.url}/models/{model.name}/invoke"
    size = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command = ["wrk", *size, "-s", str(SCRIPT), url, "--", str(body), model.content_type]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS, check=False
    )
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": 1}
    if found["failed"] or not found["requests"]:
        raise BenchmarkError(f"{server.name}: requests failed: {done.stdout}{done.stderr}")
    rate = found["requests"] / found["microseconds"] * 1e6
    return Round(rate, found["p50"] / 1000, found["p99"] / 1000)
