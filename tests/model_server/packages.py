"""Small packages, written by hand: wheels, and source directories that build without any tool."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent, indent

_WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

# A build backend that writes the package's wheel after it has run the statements given.
_BACKEND = """
import os, sys, time, zipfile
from pathlib import Path

def build_wheel(directory, config_settings=None, metadata_directory=None):
{before}
    with zipfile.ZipFile(Path(directory, "{stem}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("{name}.py", "VERSION = '{version}'")
        wheel.writestr("{stem}.dist-info/METADATA", {head!r})
        wheel.writestr("{stem}.dist-info/WHEEL", {wheel!r})
        wheel.writestr("{stem}.dist-info/RECORD", "")
    return "{stem}-py3-none-any.whl"
"""


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    module: str | None = None,
    filler_bytes: int = 0,
) -> Path:
    """A wheel with one module that knows its version."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    path = directory / f"{stem}-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{module or name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{stem}.dist-info/METADATA", _head(name, version) + needs)
        wheel.writestr(f"{stem}.dist-info/WHEEL", _WHEEL)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
        if filler_bytes:
            wheel.writestr(f"{name}.data/data/share/{name}", bytes(filler_bytes))
    return path


def make_source(directory: Path, name: str, version: str = "1.0", before: str = "pass") -> Path:
    """A source directory; its build runs ``before``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    code = _BACKEND.format(
        name=name,
        version=version,
        stem=f"{name}-{version}",
        head=_head(name, version),
        wheel=_WHEEL,
        before=indent(dedent(before).strip(), "    "),
    )
    (directory / "backend.py").write_text(code)
    return directory


def _head(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
