"""Archives of 400 MB of weights: what download and extraction take, alone and together.

The S3 is a server of files (``range_server``), so that the endpoint's own work is what counts; with
moto's server, which reads a whole object for each part of it, the download takes over.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, seconds
from benchmarks.endpoint_archives import FASTEST, pack, write_compressible
from benchmarks.endpoint_up import BUCKET, Endpoint
from benchmarks.models import Model
from benchmarks.results import OURS
from benchmarks.servers import free_port
from endpoint.objects.download import Download
from endpoint.objects.extractions import Extractions
from endpoint.objects.files import FileStore
from endpoint.objects.s3 import S3Store
from endpoint.objects.stores import archive_limits
from endpoint.settings import EndpointSettings
from modelyard import aws

BYTES = 400 << 20
MB = 1e6
ROUNDS = 3
READ_BYTES = 1 << 17
RANDOM, COMPRESSIBLE, MOTO = "random", "compress well", "random, moto's server"


@dataclass(frozen=True)
class Times:
    """Seconds."""

    download: float
    extraction: float
    both: float

    @property
    def ratio(self) -> float:
        return self.both / max(self.download, self.extraction)


def large(bench: Bench) -> None:
    """Both kinds from a server of files, then one of them from moto's."""
    folder = bench.directory / BUCKET
    folder.mkdir()
    os.environ |= aws.KEYS
    archives = {
        RANDOM: pack(bench.models.large, folder / "random.tar.gz", compresslevel=FASTEST),
        COMPRESSIBLE: pack(_compressible(bench), folder / "well.tar.gz", compresslevel=FASTEST),
    }
    with _file_server(bench.directory) as url:
        for kind, key in (
            (RANDOM, "endpoint-large"),
            (COMPRESSIBLE, "endpoint-large-compressible"),
        ):
            found = _measured(bench, url, archives[kind], bench.rounds(ROUNDS))
            _fill(bench, kind, archives[kind], found)
            bench.results.record(key, OURS, [one.ratio for one in found])
    with Endpoint(bench) as endpoint:
        endpoint.put("random.tar.gz", archives[RANDOM])
        _fill(bench, MOTO, archives[RANDOM], _measured(bench, endpoint.s3_url, archives[RANDOM], 1))
    for archive in archives.values():
        archive.unlink()


def _compressible(bench: Bench) -> Model:
    directory = bench.directory / "compressible"
    directory.mkdir()
    write_compressible(directory / "weights.bin", BYTES)
    return Model("compressible", directory, b"", "")


@contextmanager
def _file_server(directory: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.range_server", str(port), str(directory)]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _measured(bench: Bench, url: str, archive: Path, rounds: int) -> list[Times]:
    """The endpoint's own stores, in a loop of their own: each thing in turn."""
    return asyncio.run(_rounds(bench.directory / "extracted", url, archive, rounds))


async def _rounds(target: Path, url: str, archive: Path, rounds: int) -> list[Times]:
    settings = EndpointSettings()
    extractions = Extractions()
    connections = settings.download_connections
    s3 = S3Store(extractions, url=url, region=settings.region, connections=connections)
    files, limits = FileStore(extractions), archive_limits(settings)
    try:
        remote = await s3.head(f"s3://{BUCKET}/{archive.name}")
        local = await files.head(f"file://{archive}")
        times = []
        for _ in range(rounds):
            download = await asyncio.to_thread(seconds, _read_all, s3.download(remote))
            alone, both = [
                await _timed(store.extract(info, target, limits, lambda _: None), target)
                for store, info in ((files, local), (s3, remote))
            ]
            times.append(Times(download, alone, both))
        return times
    finally:
        await extractions.close()
        await s3.close()


async def _timed(extraction: Coroutine[Any, Any, int], target: Path) -> float:
    begin = time.perf_counter()
    await extraction
    taken = time.perf_counter() - begin
    shutil.rmtree(target)
    os.sync()  # or the next one would wait for the disk
    return taken


def _read_all(download: Download) -> None:
    while download.read(READ_BYTES):
        pass


def _fill(bench: Bench, kind: str, archive: Path, found: list[Times]) -> None:
    fill = bench.results.fill
    fill("endpoint_large", kind, "size", [archive.stat().st_size / MB])
    for column in ("download", "extraction", "both", "ratio"):
        fill("endpoint_large", kind, column, [getattr(one, column) for one in found])
