"""The script that all models share, as legacy containers get it: SAGEMAKER_SUBMIT_DIRECTORY.

It is a directory, an archive, or the address of an archive in S3, fetched once at start. What is
found takes the place of ``shared_code_dir``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from archives.errors import ExtractionError
from archives.extraction import ArchiveLimits, extract_archive
from model_server import logs
from model_server.settings import Settings, SettingsError


@contextmanager
def submitted_code(settings: Settings, environment: Mapping[str, str]) -> Iterator[Settings]:
    """Settings whose ``shared_code_dir`` holds the submitted script; what was fetched goes after.

    Raises ``SettingsError`` that says why the script cannot be had.
    """
    source = settings.submit_directory.removeprefix("file://")
    if not source:
        yield settings
        return
    if not source.startswith("s3://") and not Path(source).is_file():
        yield replace(settings, shared_code_dir=_directory(source, settings, environment))
        return
    with tempfile.TemporaryDirectory(prefix="modelyard-code-") as folder:
        archive = Path(folder, "sourcedir.tar.gz")
        if source.startswith("s3://"):
            _download(source, archive, environment)
        else:
            archive = Path(source)
        code = _extract(source, archive, Path(folder, "code"), settings)
        yield replace(settings, shared_code_dir=code)


def _directory(source: str, settings: Settings, environment: Mapping[str, str]) -> str:
    """The directory itself. A program that was asked for by name must be in it."""
    if Path(source).is_dir():
        asked = environment.get("SAGEMAKER_PROGRAM") or settings.program != Settings().program
        return _place_of_program(source, Path(source), settings) if asked else source
    if Path(source).is_relative_to(settings.model_dir):  # the SDK names it where there is none
        logs.logger.info("there is no %s: each model is served by its own code", source)
        return settings.shared_code_dir
    raise SettingsError(
        f"submit_directory is {source!r}, which is not there; it must be a directory, a tar.gz, or "
        "s3://bucket/key of a tar.gz"
    )


def _extract(source: str, archive: Path, target: Path, settings: Settings) -> str:
    """The directory of the archive with the script: its root, or ``code/`` in it."""
    limits = ArchiveLimits(settings.max_extracted_bytes, settings.max_extracted_files)
    try:
        extract_archive(archive, target, limits)
    except (ExtractionError, OSError) as error:
        raise SettingsError(f"submit_directory {source}: {error}") from error
    return _place_of_program(source, target, settings)


def _place_of_program(source: str, target: Path, settings: Settings) -> str:
    program = settings.program if settings.program.endswith(".py") else f"{settings.program}.py"
    for folder in (target, target / "code"):
        if (folder / program).is_file():
            return str(folder)
    raise SettingsError(
        f"submit_directory {source} holds no {program}, neither at its root nor in code/. "
        "SAGEMAKER_PROGRAM names the script"
    )


def _download(source: str, target: Path, environment: Mapping[str, str]) -> None:
    """Fetch an object of S3 to a file, with the credentials that boto3 finds."""
    try:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise SettingsError(
            f"submit_directory {source} needs boto3, which is not installed. "
            "Install modelyard[s3], or give a directory"
        ) from error
    address = urlsplit(source)
    bucket, key = address.netloc, address.path.lstrip("/")
    if not bucket or not key:
        raise SettingsError(f"submit_directory is {source!r}; it must be s3://bucket/key")
    region = environment.get("SAGEMAKER_REGION") or environment.get("AWS_REGION")
    try:
        client = boto3.client("s3", region_name=region)
        client.download_file(bucket, key, str(target), Config=TransferConfig(use_threads=False))
        client.close()
    except (BotoCoreError, ClientError, OSError) as error:
        raise SettingsError(f"submit_directory {source} cannot be fetched: {error}") from error
