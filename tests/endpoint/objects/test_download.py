"""Downloads that are extracted on the way: parts, failures in the middle, an end on request."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from archives.errors import ArchiveError, DiskFull, ExtractionError
from archives.extraction import ArchiveLimits
from endpoint.objects.download import PART_BYTES
from endpoint.objects.store import (
    ObjectChanged,
    ObjectInfo,
    ObjectMissing,
    Room,
    StoreError,
    StoreUnavailable,
)
from endpoint.objects.stores import Stores, archive_limits
from endpoint.settings import EndpointSettings

from .archive_parts import contents, no_limit, tar_gz_of, tar_of
from .s3_server import S3, Refusal

SMALL = {"code/inference.py": b"def model_fn(model_dir): ...\n", "model.bin": b"weights" * 1000}
LARGE = {f"weights-{n}.bin": os.urandom(3 << 20) for n in range(6)}
SETTINGS = EndpointSettings(download_connections=2)
LIMITS = archive_limits(SETTINGS)


@pytest.fixture(scope="module")
def large() -> bytes:
    """Of five parts, the last one short."""
    data = tar_of(LARGE)
    assert 4 * PART_BYTES < len(data) < 5 * PART_BYTES
    return data


@asynccontextmanager
async def stores(s3: S3, settings: EndpointSettings = SETTINGS) -> AsyncIterator[Stores]:
    opened = Stores(settings, s3.url)
    try:
        yield opened
    finally:
        await opened.close()


def fetch(
    s3: S3, data: bytes, target: Path, room: Room = no_limit, limits: ArchiveLimits = LIMITS
) -> int:
    """Look at an object and extract it; a failure must leave nothing."""
    s3.objects["a.tar.gz"] = data

    async def fetched() -> int:
        async with stores(s3) as opened:
            info = await opened.head(s3.info_url("a.tar.gz"))
            return await opened.extract(info, target, limits, room)

    try:
        return asyncio.run(fetched())
    except BaseException:
        assert not target.parent.is_dir() or list(target.parent.iterdir()) == []
        raise


def part_starts(s3: S3) -> list[int]:
    return sorted(int(asked[6:].partition("-")[0]) for asked in s3.ranges if asked)


def test_a_small_object_takes_one_look_and_one_request_for_all_of_it(
    s3: S3, tmp_path: Path
) -> None:
    size = fetch(s3, tar_gz_of(SMALL), tmp_path / "id" / "model")
    assert contents(tmp_path / "id" / "model") == SMALL
    assert size == sum(map(len, SMALL.values()))
    assert s3.ranges == [None]
    assert s3.connections == 1


def test_a_large_object_comes_in_parts_some_at_once_over_few_connections(
    s3: S3, large: bytes, tmp_path: Path
) -> None:
    second = threading.Event()

    def meet(asked: str | None) -> None:
        if len(s3.ranges) > 1:
            second.set()
        assert second.wait(60)

    s3.before_get = meet
    fetch(s3, large, tmp_path / "model")
    assert contents(tmp_path / "model") == LARGE
    assert part_starts(s3) == [n * PART_BYTES for n in range(5)]
    assert s3.connections <= 3


def test_no_more_than_the_window_is_downloaded_while_the_extraction_waits(
    s3: S3, large: bytes, tmp_path: Path
) -> None:
    asked: list[int] = []
    second = threading.Event()
    s3.before_get = lambda _: second.set() if len(s3.ranges) > 1 else None

    def room(size: int) -> None:
        if not asked:
            assert second.wait(60)
        asked.append(len(s3.ranges))

    fetch(s3, large, tmp_path / "model", room)
    assert asked[0] == 2


@pytest.mark.parametrize("data_of", [tar_of, tar_gz_of])
def test_what_breaks_off_goes_on_from_the_byte_it_reached(
    s3: S3, tmp_path: Path, data_of: Callable[[dict[str, bytes]], bytes]
) -> None:
    data = data_of({"a": os.urandom(3 << 20)})
    s3.cuts.extend([1_000_000, 0, 500_000])
    fetch(s3, data, tmp_path / "model")
    last = len(data) - 1
    assert s3.ranges == [
        None,
        f"bytes=1000000-{last}",
        f"bytes=1000000-{last}",
        f"bytes=1500000-{last}",
    ]


def test_each_of_many_parts_may_break_off(s3: S3, large: bytes, tmp_path: Path) -> None:
    s3.cuts.extend([1_000_003, 2_000_003, 7, 300_001, 1])
    fetch(s3, large, tmp_path / "model")
    assert contents(tmp_path / "model") == LARGE
    assert len(s3.ranges) == 5 + 5


def test_what_breaks_off_again_and_again_is_given_up(s3: S3, tmp_path: Path) -> None:
    s3.cuts.extend([10] * 1000)
    with pytest.raises(StoreUnavailable, match=r"a\.tar\.gz"):
        fetch(s3, tar_gz_of(SMALL), tmp_path / "id" / "model")
    assert len(s3.ranges) == 5


def test_a_store_that_is_busy_for_a_while_is_asked_again(s3: S3, tmp_path: Path) -> None:
    s3.refusals.extend([Refusal(503, "SlowDown"), Refusal(500, "InternalError")])
    fetch(s3, tar_gz_of(SMALL), tmp_path / "model")
    assert contents(tmp_path / "model") == SMALL


def test_an_object_replaced_before_the_download_is_told(s3: S3, tmp_path: Path) -> None:
    def replace(asked: str | None) -> None:
        s3.etag = '"second"'

    s3.before_get = replace
    with pytest.raises(ObjectChanged, match="replaced"):
        fetch(s3, tar_gz_of(SMALL), tmp_path / "id" / "model")


@pytest.mark.parametrize("ignores_if_match", [False, True])
def test_an_object_replaced_in_the_middle_is_told(
    s3: S3, large: bytes, tmp_path: Path, ignores_if_match: bool
) -> None:
    def replace(asked: str | None) -> None:
        if asked is not None and asked.startswith(f"bytes={3 * PART_BYTES}-"):
            s3.etag = '"second"'

    s3.before_get = replace
    s3.ignores_if_match = ignores_if_match
    with pytest.raises(ObjectChanged, match="replaced"):
        fetch(s3, large, tmp_path / "id" / "model")


def test_an_object_deleted_in_the_middle_is_told(s3: S3, large: bytes, tmp_path: Path) -> None:
    def delete(asked: str | None) -> None:
        if asked is not None and asked.startswith(f"bytes={3 * PART_BYTES}-"):
            s3.objects.clear()

    s3.before_get = delete
    with pytest.raises(ObjectMissing):
        fetch(s3, large, tmp_path / "id" / "model")


def test_a_store_without_ranges_is_told(s3: S3, large: bytes, tmp_path: Path) -> None:
    s3.ignores_ranges = True
    with pytest.raises(StoreError, match="ranges"):
        fetch(s3, large, tmp_path / "id" / "model")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither tar.gz"),
        (b"no archive", "neither tar.gz"),
        (tar_gz_of(SMALL)[:-100], "too early"),
        (tar_of(SMALL)[:2000], ""),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (tar_gz_of({"../x": b""}), "leads out"),
        (tar_gz_of({"bomb": bytes(20 << 20)}), "MODELYARD_UP_MAX_EXTRACTED_BYTES"),
        (tar_gz_of({f"f{n}": b"" for n in range(101)}), "MODELYARD_UP_MAX_EXTRACTED_FILES"),
    ],
)
def test_what_cannot_be_extracted_is_told_with_the_objects_url(
    s3: S3, tmp_path: Path, data: bytes, words: str
) -> None:
    limits = ArchiveLimits(
        *(10 << 20, 100),
        bytes_setting=LIMITS.bytes_setting,
        files_setting=LIMITS.files_setting,
    )
    with pytest.raises(ArchiveError, match=f"'s3://bucket/a.tar.gz' cannot be served: .*{words}"):
        fetch(s3, data, tmp_path / "id" / "model", limits=limits)


def test_room_is_asked_for_before_each_file_and_may_be_refused(s3: S3, tmp_path: Path) -> None:
    asked: list[int] = []

    def room(size: int) -> None:
        asked.append(size)
        if size > 250:
            raise DiskFull("no room")

    data = tar_gz_of({name: bytes(100) for name in "abcd"})
    with pytest.raises(DiskFull, match="no room"):
        fetch(s3, data, tmp_path / "id" / "model", room)
    assert asked == [100, 200, 300]


def test_a_disk_that_is_too_small_is_told_with_the_endpoints_setting(
    s3: S3, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExtractionError, match="MODELYARD_UP_DATA_DIR says where archives go"):
        fetch(s3, tar_gz_of(SMALL), tmp_path / "file" / "model")


def stalled(s3: S3, large: bytes) -> None:
    """Have the first part stop in the middle."""
    s3.objects["a.tar.gz"] = large
    s3.stall_after = PART_BYTES // 2


def downloading() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("s3-part")}


def test_a_cancelled_extraction_ends_at_once_and_leaves_nothing(
    s3: S3, large: bytes, tmp_path: Path
) -> None:
    stalled(s3, large)
    target = tmp_path / "id" / "model"

    async def cancelled() -> None:
        async with stores(s3) as opened:
            info = await opened.head(s3.info_url("a.tar.gz"))
            task = asyncio.create_task(opened.extract(info, target, LIMITS, no_limit))
            assert await asyncio.to_thread(s3.stalled.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(60):
                    await task
            assert list(target.parent.iterdir()) == []
            s3.stall_after = None
            await opened.extract(info, target, LIMITS, no_limit)
        assert not s3.go_on.is_set()  # threads that read ended before the store went on

    asyncio.run(cancelled())
    assert not downloading()
    assert contents(target) == LARGE


def test_closing_ends_what_is_being_extracted(s3: S3, large: bytes, tmp_path: Path) -> None:
    stalled(s3, large)
    target = tmp_path / "id" / "model"

    async def closed() -> None:
        async with stores(s3) as opened:
            info = await opened.head(s3.info_url("a.tar.gz"))
            task = asyncio.create_task(opened.extract(info, target, LIMITS, no_limit))
            assert await asyncio.to_thread(s3.stalled.wait, 60)
            await opened.close()
            with pytest.raises(StoreUnavailable, match="stopping"):
                await task
            with pytest.raises(StoreUnavailable, match="stopping"):
                await opened.extract(info, target, LIMITS, no_limit)

    asyncio.run(closed())
    assert not downloading()
    assert list(target.parent.iterdir()) == []


def test_cancelled_before_its_turn_an_extraction_never_starts(s3: S3, tmp_path: Path) -> None:
    s3.objects["a.tar.gz"] = tar_gz_of(SMALL)
    go_on = threading.Event()

    def wait(size: int) -> None:
        assert go_on.wait(60)

    async def cancelled() -> None:
        async with stores(s3) as opened:
            info = await opened.head(s3.info_url("a.tar.gz"))
            *others, last = [
                asyncio.create_task(opened.extract(info, tmp_path / str(n), LIMITS, wait))
                for n in range(9)
            ]
            await asyncio.sleep(0)
            last.cancel()
            with pytest.raises(asyncio.CancelledError):
                await last
            go_on.set()
            await asyncio.gather(*others)

    asyncio.run(cancelled())
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(8)]


def test_many_extractions_at_once_are_all_whole(s3: S3, large: bytes, tmp_path: Path) -> None:
    s3.objects = {"large": large, "small": tar_gz_of(SMALL)}

    async def all_of_them() -> None:
        async with stores(s3) as opened:

            async def one(number: int) -> None:
                key = "large" if number % 6 == 0 else "small"
                info = await opened.head(s3.info_url(key))
                await opened.extract(info, tmp_path / str(number), LIMITS, no_limit)

            await asyncio.gather(*(one(number) for number in range(18)))

    asyncio.run(all_of_them())
    for number in range(18):
        expected = LARGE if number % 6 == 0 else SMALL
        assert contents(tmp_path / str(number)) == expected


def test_nobody_answers(tmp_path: Path) -> None:
    async def asked() -> None:
        opened = Stores(SETTINGS, "http://127.0.0.1:1")
        try:
            with pytest.raises(StoreUnavailable, match=r"s3://bucket/a.*127\.0\.0\.1:1"):
                await opened.head("s3://bucket/a")
            info = ObjectInfo("s3://bucket/a", 10, '"x"')
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await opened.extract(info, tmp_path / "model", LIMITS, no_limit)
        finally:
            await opened.close()

    asyncio.run(asked())
    assert list(tmp_path.iterdir()) == []
