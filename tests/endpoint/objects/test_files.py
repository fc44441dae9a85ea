"""Archives in folders of this machine."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from endpoint.objects.store import ObjectChanged, ObjectInfo, ObjectMissing, StoreError
from endpoint.objects.stores import Stores, archive_limits
from endpoint.settings import EndpointSettings

from .archive_parts import contents, no_limit, tar_gz_of, tar_of

SETTINGS = EndpointSettings()
LIMITS = archive_limits(SETTINGS)
FILES = {"code/inference.py": b"", "model.bin": bytes(10_000)}

T = TypeVar("T")


def using(use: Callable[[Stores], Awaitable[T]]) -> T:
    """The result of one use of the stores."""

    async def used() -> T:
        stores = Stores(SETTINGS)
        try:
            return await use(stores)
        finally:
            await stores.close()

    return asyncio.run(used())


def head(path: Path) -> ObjectInfo:
    return using(lambda stores: stores.head(f"file://{path}"))


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("data", [tar_gz_of(FILES), tar_of(FILES), zip_of(FILES)])
def test_an_archive_is_looked_at_and_extracted(tmp_path: Path, data: bytes) -> None:
    archive = tmp_path / "a b%20é.tar.gz"
    archive.write_bytes(data)

    async def use(stores: Stores) -> int:
        info = await stores.head(f"file://{archive}")
        assert info.size == len(data)
        return await stores.extract(info, tmp_path / "id" / "model", LIMITS, no_limit)

    assert using(use) == 10_000
    assert contents(tmp_path / "id" / "model") == FILES


def test_the_etag_is_another_when_the_file_is(tmp_path: Path) -> None:
    archive, other = tmp_path / "a", tmp_path / "b"
    archive.write_bytes(b"x")
    first = head(archive)
    assert head(archive) == first
    other.write_bytes(b"y")
    status = archive.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(archive)
    assert head(archive).etag != first.etag


def test_a_file_that_is_written_to_while_it_is_read_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_of({"a": b"x", "b": os.urandom(3 << 20)}))

    def write(size: int) -> None:
        with archive.open("ab") as file:
            file.write(b"more")

    async def use(stores: Stores) -> None:
        info = await stores.head(f"file://{archive}")
        with pytest.raises(ObjectChanged, match="was changed"):
            await stores.extract(info, tmp_path / "id" / "model", LIMITS, write)
        with pytest.raises(ObjectChanged, match="was changed"):
            await stores.extract(info, tmp_path / "id" / "model", LIMITS, no_limit)

    using(use)
    assert list((tmp_path / "id").iterdir()) == []


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("missing", "folder", "file/below", "folder/missing"):
        with pytest.raises(ObjectMissing, match=str(tmp_path)):
            head(tmp_path / name)
    with pytest.raises(StoreError, match="too long"):
        head(tmp_path / ("n" * 300))


@pytest.mark.parametrize("path", ["relative/a", "", "/tmp/../etc/passwd", "localhost/a", "/a\0b"])
def test_what_is_no_absolute_path_is_refused(path: str) -> None:
    with pytest.raises(StoreError, match="file:///folder"):
        using(lambda stores: stores.head(f"file://{path}"))


def test_a_file_that_is_gone_before_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(tar_of(FILES))

    async def use(stores: Stores) -> None:
        info = await stores.head(f"file://{tmp_path}/a")
        (tmp_path / "a").unlink()
        with pytest.raises(ObjectMissing):
            await stores.extract(info, tmp_path / "id" / "model", LIMITS, no_limit)

    using(use)


def test_a_prefix_must_be_a_folder_and_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    async def use(stores: Stores) -> None:
        await stores.has_prefix(f"file://{tmp_path}/folder/")
        for name in ("file", "missing/"):
            with pytest.raises(ObjectMissing):
                await stores.has_prefix(f"file://{tmp_path}/{name}")

    using(use)
