"""Archives of benchmark models, as users put them into a bucket."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from benchmarks.endpoint_up import Asked
from benchmarks.models import Model

FASTEST = 1  # how hard gzip tries; inflating is as fast


def pack(model: Model, archive: Path, *, compresslevel: int = 6) -> Path:
    """Write a tar.gz of a model's directory."""
    with tarfile.open(archive, "w:gz", compresslevel=compresslevel) as tar:
        tar.add(model.directory, arcname=".")
    return archive


def asked(target: str, model: Model) -> Asked:
    """The model's request, for its archive."""
    return Asked(target, model.body, model.content_type)


def write_compressible(file: Path, size: int) -> None:
    """As weights are that were small integers once: of four bytes only one says something."""
    piece = 1 << 22
    with file.open("wb") as written:
        for _ in range(size // piece):
            content = bytearray(piece)
            content[::4] = os.urandom(piece // 4)
            written.write(content)
