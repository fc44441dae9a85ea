"""The shell of somebody who uses ``modelyard up``, and what runs because of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import boto3

from archives.extraction import ArchiveLimits
from modelyard.data_dir import DataDir, Running
from modelyard.pack import pack_archive
from tests.modelyard.conftest import COMMAND, MODELS, environment


class Shell:
    """An empty directory with a folder ``models``, and an environment without AWS in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models = directory / "models"
        self.models.mkdir()
        limits = ArchiveLimits(1 << 20, 100)
        pack_archive(MODELS / "echo", self.models / "echo.tar.gz", limits)
        pack_archive(MODELS / "raises_on_predict", self.models / "sad.tar.gz", limits)

    @property
    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in environment().items() if not k.startswith("AWS_")}
        nowhere = str(self.directory / "none")
        files = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
        return {**plain, **files, "AWS_EC2_METADATA_DISABLED": "true", "MODELYARD_UP_PORT": "0"}

    @property
    def data(self) -> DataDir:
        return DataDir(str(self.directory / ".modelyard"))

    def run(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            env={**self.environment, **variables},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """In the foreground. It must be ended and ``communicate``d with."""
        with (self.directory / "stderr").open("w") as errors:
            return subprocess.Popen(
                [COMMAND, *map(str, arguments)],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def up(self, *arguments: object, **variables: str) -> dict[str, str]:
        """Of ``up --detach``: the variables that it exports."""
        done = self.run("up", "--detach", *arguments, **variables)
        assert done.returncode == 0, done.stderr
        return exported(done.stdout)

    def running(self) -> Running:
        running = self.data.running()
        assert running is not None
        return running

    def client(self, service: str) -> Any:
        running = self.running()
        return boto3.client(
            service,
            endpoint_url=running.s3 if service == "s3" else running.url,
            region_name=running.region,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )

    def instances(self) -> list[int]:
        """The processes of instances."""
        return [pid for pid in self.processes() if b"container.entrypoint" in command_of(pid)]

    def processes(self) -> list[int]:
        """All that have to do with this directory."""
        mark = bytes(self.directory)
        return [pid for pid in pids() if mark in command_of(pid) + environment_of(pid)]

    def kill(self) -> None:
        """What happens to an endpoint when memory runs out."""
        os.kill(self.running().pid, signal.SIGKILL)
        assert self.data.wait_until_free(60)


def exported(text: str) -> dict[str, str]:
    lines = [line.removeprefix("export ").partition("=") for line in text.splitlines()]
    return {name: value for name, _, value in lines}


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def command_of(pid: int) -> bytes:
    return _read(pid, "cmdline")


def environment_of(pid: int) -> bytes:
    return _read(pid, "environ")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
