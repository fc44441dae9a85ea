"""S3 as moto serves it, and what stores refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from moto.server import ThreadedMotoServer

from archives.errors import ArchiveError
from endpoint.objects.store import (
    AccessRefused,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from endpoint.objects.stores import Stores, archive_limits
from endpoint.settings import EndpointSettings

from .archive_parts import contents, no_limit, tar_gz_of
from .s3_server import S3, Refusal

SETTINGS = EndpointSettings()
LIMITS = archive_limits(SETTINGS)
FILES = {"code/inference.py": b"", "model.bin": bytes(10_000)}

T = TypeVar("T")
Use = Callable[[Stores], Awaitable[T]]


def using(url: str | None, use: Use[T]) -> T:
    """The result of one use of the stores."""

    async def used() -> T:
        stores = Stores(SETTINGS, url)
        try:
            return await use(stores)
        finally:
            await stores.close()

    return asyncio.run(used())


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a server with a bucket ``models``."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def client(moto: str, credentials: None) -> Iterator[Any]:
    client = boto3.client("s3", endpoint_url=moto, region_name=SETTINGS.region)
    client.create_bucket(Bucket="models")
    yield client
    client.close()


def test_an_archive_is_looked_at_and_extracted(moto: str, client: Any, tmp_path: Path) -> None:
    data = tar_gz_of(FILES)
    client.put_object(Bucket="models", Key="a/b c+d%20é?.tar.gz", Body=data)

    async def use(stores: Stores) -> int:
        info = await stores.head("s3://models/a/b c+d%20é?.tar.gz")
        assert info.size == len(data)
        return await stores.extract(info, tmp_path / "model", LIMITS, no_limit)

    assert using(moto, use) == 10_000
    assert contents(tmp_path / "model") == FILES


def test_the_stores_url_may_come_from_the_environment(
    moto: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put_object(Bucket="models", Key="here", Body=b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    assert using(None, lambda stores: stores.head("s3://models/here")).size == 1


def test_the_etag_is_another_for_other_contents(moto: str, client: Any, tmp_path: Path) -> None:
    client.put_object(Bucket="models", Key="changing", Body=tar_gz_of(FILES))

    async def use(stores: Stores) -> None:
        first = await stores.head("s3://models/changing")
        client.put_object(Bucket="models", Key="changing", Body=tar_gz_of({"other": b""}))
        second = await stores.head("s3://models/changing")
        assert first.etag != second.etag
        with pytest.raises(ObjectChanged, match="s3://models/changing was replaced"):
            await stores.extract(first, tmp_path / "model", LIMITS, no_limit)
        client.delete_object(Bucket="models", Key="changing")
        with pytest.raises(ObjectMissing, match="there is no s3://models/changing"):
            await stores.extract(second, tmp_path / "model", LIMITS, no_limit)

    using(moto, use)
    assert list(tmp_path.iterdir()) == []


def test_a_zip_is_refused_in_words(moto: str, client: Any, tmp_path: Path) -> None:
    client.put_object(Bucket="models", Key="a.mar", Body=b"PK\x03\x04" + bytes(100))

    async def use(stores: Stores) -> None:
        info = await stores.head("s3://models/a.mar")
        with pytest.raises(ArchiveError, match=r"zip.*make it a tar.gz"):
            await stores.extract(info, tmp_path / "model", LIMITS, no_limit)

    using(moto, use)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("s3://models/missing", ObjectMissing, "there is no s3://models/missing"),
        ("s3://no-bucket/a", ObjectMissing, "no bucket no-bucket"),
        ("s3://models", StoreError, "whole bucket"),
        ("s3:///a", StoreError, "names no bucket"),
        ("s3://no bucket/a", StoreError, "cannot be the name"),
        ("gs://models/a", StoreError, "s3:// or file://"),
        ("models/a", StoreError, "s3:// or file://"),
    ],
)
def test_what_is_not_there_is_told(
    moto: str, client: Any, url: str, kind: type[StoreError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        using(moto, lambda stores: stores.head(url))


def test_a_prefix_must_be_in_a_bucket_and_may_be_empty(moto: str, client: Any) -> None:
    async def use(stores: Stores) -> None:
        await stores.has_prefix("s3://models/nothing/yet/")
        await stores.has_prefix("s3://models")
        with pytest.raises(ObjectMissing, match="no such bucket"):
            await stores.has_prefix("s3://no-bucket/a/")

    using(moto, use)


REFUSALS = [
    (Refusal(403, "AccessDenied"), AccessRefused, "s3:GetObject"),
    (Refusal(403, "InvalidAccessKeyId"), AccessRefused, "does not accept the credentials"),
    (Refusal(403, "SignatureDoesNotMatch"), AccessRefused, "does not accept the credentials"),
    (Refusal(400, "ExpiredToken"), AccessRefused, "does not accept the credentials"),
    (Refusal(403, "InvalidObjectState"), AccessRefused, "storage class"),
    (Refusal(404, "NoSuchKey"), ObjectMissing, "there is no"),
    (Refusal(404, "NoSuchBucket"), ObjectMissing, "no such bucket"),
    (Refusal(412, "PreconditionFailed"), ObjectChanged, "replaced"),
    (Refusal(400, "AuthorizationHeaderMalformed"), StoreError, "MODELYARD_UP_REGION"),
    (Refusal(301, "PermanentRedirect"), StoreError, "redirects for ever"),
    (Refusal(400, "InvalidRequest"), StoreError, "refuses the request"),
    (Refusal(503, "SlowDown"), StoreUnavailable, "too much to do"),
    (Refusal(500, "InternalError"), StoreUnavailable, "InternalError"),
]


@pytest.mark.parametrize(
    ("refusal", "kind", "words"), REFUSALS, ids=[refusal.code for refusal, _, _ in REFUSALS]
)
def test_what_a_store_refuses_says_what_to_do(
    s3: S3, tmp_path: Path, refusal: Refusal, kind: type[StoreError], words: str
) -> None:
    s3.objects["a"] = tar_gz_of(FILES)

    async def use(stores: Stores) -> None:
        info = await stores.head("s3://bucket/a")
        s3.refuse_always = refusal
        with pytest.raises(
            StoreError, match=f"s3://bucket/a.*{words}|{words}.*s3://bucket/a"
        ) as told:
            await stores.extract(info, tmp_path / "model", LIMITS, no_limit)
        assert type(told.value) is kind

    using(s3.url, use)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (403, AccessRefused, "s3:ListBucket"),
        (404, ObjectMissing, "there is no bucket"),
        (400, StoreError, "region and keys"),
        (500, StoreUnavailable, "fault"),
    ],
)
def test_a_look_that_is_refused_without_a_word_says_what_to_do(
    s3: S3, status: int, kind: type[StoreError], words: str
) -> None:
    s3.refuse_always = Refusal(status, "")
    with pytest.raises(StoreError, match=words) as told:
        using(s3.url, lambda stores: stores.head("s3://bucket/a"))
    assert type(told.value) is kind


def test_who_has_no_patience_asks_a_store_once(s3: S3) -> None:
    s3.objects["a"] = b"x"
    s3.refusals.append(Refusal(503, "SlowDown"))

    async def use(stores: Stores) -> None:
        with pytest.raises(StoreUnavailable):
            await stores.head("s3://bucket/a", patient=False)
        assert (await stores.head("s3://bucket/a", patient=False)).size == 1

    using(s3.url, use)


def test_a_prefix_that_may_not_be_listed_is_told(s3: S3) -> None:
    s3.refuse_always = Refusal(403, "AccessDenied")
    with pytest.raises(AccessRefused, match=r"s3://bucket/a/.*s3:ListBucket"):
        using(s3.url, lambda stores: stores.has_prefix("s3://bucket/a/"))


def test_without_credentials_it_is_told_how_to_give_them(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessRefused, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        using(s3.url, lambda stores: stores.head("s3://bucket/a"))


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://nobody.invalid:1"])
def test_a_stores_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/a"):
        using(url, lambda stores: stores.head("s3://bucket/a"))
