"""A base image made without a hub: Debian by debootstrap, with its own Python 3.11."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.podman import Podman, install_debian

NAME = "localhost/base:bookworm-1"
MAKE_SECONDS = 600.0

_PACKAGES = "ca-certificates,python3,python3-venv"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the images of a hub lack too, and what differs from day to day.
_REMOVED = (
    *("var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/*"),
    *("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*"),
)


def base_image(engine: Podman) -> str:
    """Its name, made if there is none. Skips where it cannot be made."""
    if NAME not in engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        tree = engine.directory / "rootfs"
        shutil.rmtree(tree, ignore_errors=True)
        try:
            _make(engine, tree)
        finally:
            shutil.rmtree(tree, ignore_errors=True)
    return NAME


def _make(engine: Podman, tree: Path) -> None:
    install_debian("debootstrap")
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(tree)]
    done = subprocess.run(command, capture_output=True, timeout=MAKE_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"debootstrap makes no base image: {done.stdout.decode()[-500:]}")
    for pattern in _REMOVED:
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    tar = engine.directory / "base.tar"
    try:
        subprocess.run(["tar", "-C", tree, "--numeric-owner", "-cf", tar, "."], check=True)
        change = ["--change", f"ENV=PATH={_PATH}", "--change", 'CMD=["python3"]']
        engine.run("import", *change, str(tar), NAME, within_seconds=200)
    finally:
        tar.unlink(missing_ok=True)
