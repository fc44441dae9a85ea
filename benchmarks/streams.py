"""How soon a client has what a generator yields, and how many chunks a second pass."""

from __future__ import annotations

import json
import re
import socket
import time
from itertools import pairwise
from statistics import quantiles
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.results import OURS
from benchmarks.servers import REQUEST_SECONDS, BenchmarkError, Server

STREAMS = 150
CHUNKS = 6
PAUSE_SECONDS = 0.01
MANY = 20_000
END = b"\r\n0\r\n\r\n"
MOMENT = re.compile(rb"t=([0-9]{17})\n")


class Chunk(NamedTuple):
    """When a chunk was yielded and when it was there, CLOCK_MONOTONIC in ms."""

    yielded: float
    received: float

    @property
    def delay(self) -> float:
        return self.received - self.yielded


def stream(bench: Bench) -> None:
    """Short streams with pauses, one after another; then long ones without any."""
    model = bench.models.stream
    with bench.ours() as server:
        server.warm_up(bench.models.tiny(0))
        server.load(model)
        with socket.create_connection(("127.0.0.1", server.port), REQUEST_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _ask(connection, server, CHUNKS, PAUSE_SECONDS)
            streams = [
                _ask(connection, server, CHUNKS, PAUSE_SECONDS)
                for _ in range(STREAMS // 5 if bench.quick else STREAMS)
            ]
            _record_delays(bench, streams)
            rates = [_rate(connection, server) for _ in range(bench.rounds(5))]
    bench.results.record("stream-rate", OURS, rates)


def _record_delays(bench: Bench, streams: list[list[Chunk]]) -> None:
    first = [chunks[0].delay for chunks in streams]
    later = [chunk.delay for chunks in streams for chunk in chunks[1:]]
    off = [
        abs((after.received - before.received) - (after.yielded - before.yielded))
        for chunks in streams
        for before, after in pairwise(chunks)
    ]
    for key, values in (("first", first), ("later", later), ("jitter", off)):
        parts = quantiles(values, n=100, method="inclusive")
        bench.results.record(f"stream-{key}-p50", OURS, [parts[49]])
        bench.results.record(f"stream-{key}-p99", OURS, [parts[98]])


def _rate(connection: socket.socket, server: Server) -> float:
    begin = time.perf_counter()
    _ask(connection, server, MANY, 0.0)
    return MANY / (time.perf_counter() - begin)


def _ask(
    connection: socket.socket, server: Server, chunks: int, pause_seconds: float
) -> list[Chunk]:
    """One request; the chunks of its answer, each with the moment its bytes could be read."""
    body = json.dumps({"chunks": chunks, "pause_seconds": pause_seconds}).encode()
    head = (
        f"POST /models/stream/invoke HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    reads: list[tuple[float, bytes]] = []
    tail = b""
    while not tail.endswith(END):
        data = connection.recv(1 << 16)
        reads.append((time.monotonic_ns() / 1e6, data))
        tail = (tail + data)[-len(END) :]
        if not data:
            raise BenchmarkError("the stream was cut off")
    return _chunks(reads, chunks)


def _chunks(reads: list[tuple[float, bytes]], count: int) -> list[Chunk]:
    """Find what was yielded in what was read; a chunk is there with its last byte."""
    data = b"".join(part for _, part in reads)
    found, end, parts = [], 0, iter(reads)
    received = 0.0
    for moment in MOMENT.finditer(data):
        while end < moment.end():
            received, part = next(parts)
            end += len(part)
        found.append(Chunk(int(moment[1]) / 1e6, received))
    if len(found) != count or not data.startswith(b"HTTP/1.1 200"):
        raise BenchmarkError(f"{len(found)} of {count} chunks: {data[:300].decode('latin-1')}")
    return found
