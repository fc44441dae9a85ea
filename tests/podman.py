"""A container engine for the tests: Podman's API service, which speaks Docker's.

It is installed from Debian's packages where that can be done, and keeps all it has in a directory
of its own. The images that are made for it hold nothing: this machine's own files are mounted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.polling import eventually

ROOT = Path(__file__).parent.parent
PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "catatonit", "iptables")
MULTI_MODEL = "com.amazonaws.sagemaker.capabilities.multi-models=true"

# Limits are lowered to what every process here may have anyway; without the right to raise them,
# the engine's own defaults cannot be set. runc also works where control groups are of both kinds.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@dataclass(frozen=True)
class Podman:
    """A running engine."""

    directory: Path

    @property
    def url(self) -> str:
        """Of its socket."""
        return f"unix://{self.directory}/podman.sock"

    def command(self, *arguments: str) -> list[str]:
        """A command line that uses its storage."""
        storage = ["--root", f"{self.directory}/storage", "--runroot", f"{self.directory}/run"]
        return ["podman", *storage, *arguments]

    def environment(self) -> Mapping[str, str]:
        """With our configuration."""
        conf = self.directory / "containers.conf"
        return {**os.environ, "CONTAINERS_CONF": str(conf), "TMPDIR": str(self.directory)}

    def run(self, *arguments: str, data: bytes = b"", within_seconds: float = 60) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            input=data,
            capture_output=True,
            timeout=within_seconds,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def make_image(self, name: str, *labels: str) -> None:
        """One whose system is that of this machine, once ``volumes`` are mounted."""
        tree = self.directory / "image"
        shutil.rmtree(tree, ignore_errors=True)
        for directory in ("usr", "etc", "proc", "sys", "dev", "tmp", "run", "opt/ml"):
            (tree / directory).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (tree / link).symlink_to(f"usr/{link}")
        tar = subprocess.run(["tar", "-C", tree, "-c", "."], capture_output=True, check=True)
        path = f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"
        changes = [f"ENV={path}", *(f"LABEL={label}" for label in labels)]
        flags = [part for change in changes for part in ("--change", change)]
        self.run("import", *flags, "-", name, data=tar.stdout)


def volumes() -> tuple[str, ...]:
    """This machine's system, interpreter and source tree, as mounts of a container."""
    wanted = {Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), ROOT}
    outer = [one for one in wanted if not any(other in one.parents for other in wanted)]
    return tuple(f"{one}:{one}:ro" for one in sorted(outer))


@contextmanager
def podman(directory: Path) -> Iterator[Podman]:
    """An engine while the context lasts, its containers included. Skips where there can be none."""
    install_debian(*PACKAGES, commands=("podman", "runc"))
    engine = Podman(directory)
    files = os.sysconf("SC_OPEN_MAX")
    (directory / "containers.conf").write_text(CONTAINERS_CONF.format(files=files))
    with (directory / "log").open("wb") as log:
        service = subprocess.Popen(
            engine.command("system", "service", "--time=0", engine.url),
            env=engine.environment(),
            stdout=log,
            stderr=log,
        )
    try:
        if not eventually((directory / "podman.sock").exists, within_seconds=60):
            pytest.skip(f"podman does not start here: {(directory / 'log').read_text()[-500:]}")
        yield engine
    finally:
        with suppress(AssertionError):
            engine.run("rm", "--all", "--force", "--time", "0")
        service.terminate()
        service.wait(60)


def install_debian(*packages: str, commands: Sequence[str] = ()) -> None:
    """Install packages unless their commands are there; skips where that may not be done.

    ``commands`` are the packages' own names if none are given.
    """
    if all(shutil.which(command) for command in commands or packages):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"needs {', '.join(commands or packages)}, or root and apt to install them")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-q", *command], capture_output=True, timeout=240, check=False
        )
        if done.returncode:
            pytest.skip(f"{packages[0]} cannot be installed: {done.stderr.decode()[-500:]}")
