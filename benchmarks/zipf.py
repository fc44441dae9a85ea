"""Traffic on many models, drawn by Zipf's law, by wrk; every answer is kept."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from benchmarks.models import Model
from benchmarks.servers import BenchmarkError, Server

SCRIPT = Path(__file__).with_name("wrk_zipf.lua")
PATIENCE_SECONDS = 90
CONNECTIONS = 8


@dataclass(frozen=True)
class Traffic:
    """How models are asked: the first of them most. ``pause_ms`` is a connection's mean pause."""

    models: Sequence[Model]
    exponent: float
    pause_ms: float = 0.0
    connections: int = CONNECTIONS


@dataclass(frozen=True)
class Answers:
    """What came back: rank of the model (from 1; 0 for errors), status and ms of each answer."""

    rows: Sequence[tuple[int, int, float]]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.rows) / self.seconds

    def with_status(self, least: int) -> int:
        """How many answers had this status or a higher one."""
        return sum(status >= least for _, status, _ in self.rows)

    def latency(self, share: float, ranks: range) -> float:
        """The ms that this share of the answers of these models did not exceed."""
        times = sorted(taken for rank, status, taken in self.rows if rank in ranks)
        if not times:
            raise BenchmarkError(f"no answer of the models {ranks}")
        return times[ceil(share * len(times)) - 1]


def ask(server: Server, traffic: Traffic, seconds: int, seed: int) -> Answers:
    """Run wrk for so many seconds. Answers of any status count; broken connections are errors."""
    names, log = server.directory / "zipf-names", server.directory / "zipf-answers"
    names.write_text("".join(f"{model.name}\n" for model in traffic.models))
    size = ["-t1", f"-c{traffic.connections}", f"-d{seconds}s", "--timeout", "60s"]
    told = [str(names), str(traffic.exponent), str(seed), str(log), str(traffic.pause_ms)]
    done = subprocess.run(
        ["wrk", *size, "-s", str(SCRIPT), server.url, "--", *told],
        capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"broken": 1}
    if found["broken"]:
        raise BenchmarkError(f"{server.name}: connections broke: {done.stdout}{done.stderr}")
    return Answers(_parse(log), found["microseconds"] / 1e6)


def _parse(log: Path) -> list[tuple[int, int, float]]:
    rows = (line.split() for line in log.read_text().splitlines())
    return [(int(rank), int(status), int(taken) / 1000) for rank, status, taken in rows]
