from __future__ import annotations

import builtins
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from container.submit_directory import submitted_code
from model_server.settings import Settings, SettingsError


def tarball(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def settings(source: object, **more: Any) -> Settings:
    return Settings(submit_directory=str(source), **more)


def test_without_one_the_settings_stay_as_they_are() -> None:
    with submitted_code(settings(""), {}) as found:
        assert found == settings("")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_directory_takes_the_place_of_the_shared_one(tmp_path: Path, prefix: str) -> None:
    with submitted_code(settings(f"{prefix}{tmp_path}"), {}) as found:
        assert found.shared_code_dir == str(tmp_path)


@pytest.mark.parametrize("place", ["", "code/"])
@pytest.mark.parametrize("program", ["serve.py", "serve"])
def test_an_archive_is_extracted_for_as_long_as_the_server_runs(
    tmp_path: Path, place: str, program: str
) -> None:
    files = {f"{place}serve.py": "x = 1", f"{place}lib/helper.py": ""}
    archive = tarball(tmp_path / "sourcedir.tar.gz", files)
    with submitted_code(settings(archive, program=program), {}) as found:
        folder = Path(found.shared_code_dir)
        assert (folder / "serve.py").read_text() == "x = 1"
        assert (folder / "lib/helper.py").is_file()
    assert not folder.exists()
    assert archive.exists()


@pytest.mark.parametrize("program", ["mine.py", "inference.py"])
def test_a_directory_without_the_program_that_was_asked_for_is_told(
    tmp_path: Path, program: str
) -> None:
    given = settings(tmp_path, program=program)
    asked = {"SAGEMAKER_PROGRAM": program}
    with pytest.raises(SettingsError, match=f"holds no {program}"), submitted_code(given, asked):
        pass
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / program).write_text("")
    with submitted_code(given, asked) as found:
        assert found.shared_code_dir == str(tmp_path / "code")


def test_an_archive_without_the_program_is_told(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "sourcedir.tar.gz", {"train.py": "", "README": ""})
    with (
        pytest.raises(SettingsError, match=r"holds no inference\.py.*SAGEMAKER_PROGRAM"),
        submitted_code(settings(archive), {}),
    ):
        pass


def test_an_archive_that_leads_outside_or_is_none_is_told(tmp_path: Path) -> None:
    evil = tarball(tmp_path / "evil.tar.gz", {"../inference.py": "", "inference.py": ""})
    (tmp_path / "none.tar.gz").write_bytes(b"not an archive")
    for archive in (evil, tmp_path / "none.tar.gz"):
        with (
            pytest.raises(SettingsError, match=r"submit_directory .* cannot be served"),
            submitted_code(settings(archive), {}),
        ):
            pass
    assert not (tmp_path / "inference.py").exists()


def test_what_is_not_there_is_told_unless_it_would_lie_in_the_model(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"gone', which is not there; it must be a directory"),
        submitted_code(settings(tmp_path / "gone"), {}),
    ):
        pass
    of_the_sdk = settings("/opt/ml/model/code", shared_code_dir="/shared")
    with submitted_code(of_the_sdk, {}) as found:
        assert found.shared_code_dir == "/shared"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 in this process, with the bucket ``bucket``."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    yield client
    client.close()
    server.stop()


def test_an_archive_is_fetched_from_s3(s3: Any, tmp_path: Path) -> None:
    archive = tarball(tmp_path / "sourcedir.tar.gz", {"code/inference.py": "x = 1"})
    s3.upload_file(str(archive), "bucket", "job-1/source/sourcedir.tar.gz")
    region: Mapping[str, str] = {"SAGEMAKER_REGION": "us-east-1"}
    source = "s3://bucket/job-1/source/sourcedir.tar.gz"
    with submitted_code(settings(source), region) as found:
        assert Path(found.shared_code_dir, "inference.py").read_text() == "x = 1"
    assert not Path(found.shared_code_dir).exists()


@pytest.mark.parametrize("key", ["missing.tar.gz", ""])
def test_what_s3_does_not_give_is_told(s3: Any, key: str) -> None:
    reason = "cannot be fetched: .*404" if key else "must be s3://bucket/key"
    with (
        pytest.raises(SettingsError, match=reason),
        submitted_code(settings(f"s3://bucket/{key}"), {}),
    ):
        pass


def test_without_boto3_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_boto3(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "boto3":
            raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_boto3)
    with (
        pytest.raises(SettingsError, match=r"needs boto3.*modelyard\[s3\]"),
        submitted_code(settings("s3://bucket/key.tar.gz"), {}),
    ):
        pass
