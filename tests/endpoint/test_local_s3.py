"""An S3 of our own: moto's server, as a process that outlives us."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from endpoint.local_s3 import LocalS3, LocalS3Error
from endpoint.processes import tree
from endpoint.processes.process import kill_marked

ENVIRONMENT = {"PATH": os.environ["PATH"], "MOTO_PORT": "1"}


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test does, its S3 ends with it."""
    yield
    kill_marked(str(tmp_path))


def client(s3: LocalS3) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def test_it_is_an_s3_that_a_later_life_finds_again(tmp_path: Path) -> None:
    async def main() -> None:
        first = await LocalS3.start(tmp_path, ENVIRONMENT)
        bucket = client(first)
        await asyncio.to_thread(bucket.create_bucket, Bucket="models")
        await asyncio.to_thread(bucket.put_object, Bucket="models", Key="a/b.tar.gz", Body=b"it")
        bucket.close()
        first.close()

        second = await LocalS3.adopt(tmp_path, first.record)
        assert second is not None
        assert (second.url, second.record) == (first.url, first.record)
        bucket = client(second)
        found = await asyncio.to_thread(bucket.get_object, Bucket="models", Key="a/b.tar.gz")
        assert found["Body"].read() == b"it"
        bucket.close()
        await second.stop()
        assert "exited" in await second.ended()
        assert await LocalS3.adopt(tmp_path, first.record) is None
        assert tree.marked(str(tmp_path)) == []

    asyncio.run(main())


def test_a_new_one_takes_the_place_of_one_whose_record_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        first = await LocalS3.start(tmp_path, ENVIRONMENT)
        port = int(first.record["port"])
        second = await LocalS3.start(tmp_path, ENVIRONMENT, port)
        assert second.url == first.url
        assert "SIGKILL" in await first.ended()
        await second.stop()

    asyncio.run(main())


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(LocalS3Error, match=f"port {port} .* in use"):
                await LocalS3.start(tmp_path, ENVIRONMENT, port)

    asyncio.run(main())


def test_one_that_ends_before_it_answers_tells_why(tmp_path: Path) -> None:
    async def main() -> None:
        broken = tmp_path / "broken"
        await asyncio.to_thread(broken.mkdir)
        (broken / "sitecustomize.py").write_text(
            "import os; print('no luck', flush=True); os._exit(4)"
        )
        with pytest.raises(LocalS3Error, match=r"exited with code 4.*no luck"):
            await LocalS3.start(tmp_path, {**ENVIRONMENT, "PYTHONPATH": str(broken)})

    asyncio.run(main())


def test_without_moto_it_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "moto"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(LocalS3Error, match=r"pip install 'modelyard\[up\]'"):
        asyncio.run(LocalS3.start(tmp_path, ENVIRONMENT))
