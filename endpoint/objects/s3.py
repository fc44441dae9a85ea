"""Archives in S3 and in what speaks like it, by boto3, whose calls block and so run in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from archives.errors import Stopped
from archives.extraction import ArchiveLimits, extract_stream
from endpoint.objects.download import Download
from endpoint.objects.extractions import Extractions
from endpoint.objects.location import location
from endpoint.objects.retrying import patiently
from endpoint.objects.s3_errors import FAILURES, changed, status_of, store_error
from endpoint.objects.store import (
    ObjectInfo,
    ObjectMissing,
    Room,
    StoreError,
    StoreUnavailable,
)

SCHEME = "s3://"

_CALLS = 8  # looks at objects at once, apart from downloads, so that they do not wait for these
_DOWNLOADS = 4  # archives whose parts all come at once; more of them share the connections
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 20.0

T = TypeVar("T")


class S3Store:
    """Objects by URL, ``s3://bucket/key``; ``connections`` parts of one object come at once.

    Credentials are those that boto3 finds, and so is ``url`` when it is None.
    """

    def __init__(
        self, extractions: Extractions, *, url: str | None, region: str, connections: int
    ) -> None:
        self._extractions = extractions
        self._connections = connections
        self._stop = threading.Event()
        self._calls = ThreadPoolExecutor(_CALLS, "s3")
        self._parts = ThreadPoolExecutor(_DOWNLOADS * connections, "s3-part")
        self._made: Any = None
        self._making = threading.Lock()
        self._settings = {
            "endpoint_url": url,
            "region_name": region,
            "config": _config(_CALLS + _DOWNLOADS * connections),
        }

    async def head(self, url: str, *, patient: bool = True) -> ObjectInfo:
        """Look at an object; only once unless ``patient``."""
        if patient:
            return await self._call(lambda: self._head(url))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._calls, self._head, url)

    async def has_prefix(self, url: str) -> None:
        """Raise StoreError unless a prefix can be listed."""
        await self._call(lambda: self._list(url))

    def download(self, info: ObjectInfo) -> Download:
        """An object's bytes, to be read in a thread."""
        return Download(
            info,
            lambda start, end: self._open(info, start, end),
            self._parts,
            window=self._connections,
        )

    async def extract(
        self, info: ObjectInfo, target: Path, limits: ArchiveLimits, room: Room
    ) -> int:
        """Download an archive and extract it on the way; returns the bytes of its files."""
        download = self.download(info)

        def work(room: Room) -> int:
            try:
                return extract_stream(
                    download, target, limits, name=info.url, stop=download.stopped, room=room
                )
            finally:
                download.close()

        return await self._extractions.run(work, room, download.close, target)

    async def close(self) -> None:
        """End connections and threads; whoever extracts must have been ended before."""
        self._stop.set()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._calls.shutdown()
        self._parts.shutdown()
        if self._made is not None:
            self._made.close()

    async def _call(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._calls, patiently, call, self._stop)
        except Stopped as error:
            raise StoreUnavailable("the endpoint is stopping") from error

    def _client(self) -> Any:
        """The client, made by the first thread that needs it: that takes a while."""
        with self._making:
            if self._made is None:
                self._made = boto3.session.Session().client("s3", **self._settings)
            return self._made

    def _head(self, url: str) -> ObjectInfo:
        bucket, key = _place(url)
        if not key:
            raise StoreError(f"{url} is a whole bucket; an archive has a key too")
        try:
            answer = self._client().head_object(Bucket=bucket, Key=key)
        except FAILURES as error:
            failure = store_error(url, error)
            if isinstance(failure, ObjectMissing):  # a HEAD does not say of what
                self._check_bucket(url, bucket)
            raise failure from error
        return ObjectInfo(url, int(answer["ContentLength"]), str(answer["ETag"]))

    def _check_bucket(self, url: str, bucket: str) -> None:
        try:
            self._client().head_bucket(Bucket=bucket)
        except ClientError as error:
            if status_of(error) == 404:
                raise ObjectMissing(f"there is no bucket {bucket}, so no {url}") from error

    def _list(self, url: str) -> None:
        bucket, prefix = _place(location(url, ""))
        try:
            self._client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except FAILURES as error:
            raise store_error(url, error) from error

    def _open(self, info: ObjectInfo, start: int, end: int) -> _Body:
        """Ask for a range, or in one piece for an object that is no longer than a part."""
        bucket, key = _place(info.url)
        is_whole = (start, end) == (0, info.size)
        wanted = {} if is_whole else {"Range": f"bytes={start}-{end - 1}"}
        try:
            answer = self._client().get_object(Bucket=bucket, Key=key, IfMatch=info.etag, **wanted)
        except FAILURES as error:
            raise store_error(info.url, error) from error
        body = _Body(info.url, answer["Body"])
        try:
            _check_answer(info, start, end, answer)
        except StoreError:
            body.close()
            raise
        return body


class _Body:
    """A range on its way, with failures as StoreError."""

    def __init__(self, url: str, body: Any) -> None:
        self._url = url
        self._body = body

    def read(self, most: int) -> bytes:
        try:
            return bytes(self._body.read(most))
        except FAILURES as error:
            raise store_error(self._url, error) from error

    def abort(self) -> None:
        """Shut the socket, which closing would leave open while another thread reads."""
        with suppress(AttributeError, ValueError, RuntimeError, OSError):  # it is done already
            self._body._raw_stream.shutdown()

    def close(self) -> None:
        self._body.close()


def _check_answer(info: ObjectInfo, start: int, end: int, answer: dict[str, Any]) -> None:
    """Raise unless it is the range of that object: stores may ignore what they do not know."""
    if answer.get("ETag") != info.etag:
        raise changed(info.url)
    if answer.get("ContentLength") != end - start:
        raise StoreError(
            f"{info.url}: the store sends {answer.get('ContentLength')} bytes where {end - start} "
            "were asked for; it must support requests for ranges"
        )


def _place(url: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise StoreError(f"{url!r} names no bucket; write s3://bucket/key")
    return bucket, key


def _config(connections: int) -> Config:
    return Config(
        max_pool_connections=connections,
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": 1},  # patiently does it, and can be stopped
        tcp_keepalive=True,
        # gzip has checksums of its own, and not every store knows S3's.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
