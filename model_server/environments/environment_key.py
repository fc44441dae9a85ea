"""What an environment is named by: a digest of all that decides what would be in it.

Two models that ask for the same get the same environment, wherever their archives lie. So the
digest is of content: the lines of the requirements files, the packages and directories that they
name, the interpreter, and what the server itself has installed. Repeated loads pay for a few
``stat`` calls: contents are read again only when size or times of a file have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import site
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from handlers.types import Requirements

KEY_CHARS = 32

# Changes when environments are made in another way, so that older ones are not used.
_LAYOUT = "1"

_REMEMBERED_FILES = 8192
_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_NAMED_ADDRESS = re.compile(r"[\w.-]+(?:\s*\[[^]]*\])?\s*@\s*(.+)")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What builds leave in a source directory: it would change the digest of what was built from it.
_BUILD_LEFTOVERS = frozenset({"build", "__pycache__", ".git", ".eggs"})

_OPTIONS = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
_OPTIONS.add_argument("-r", "--requirement", action="append", default=[])
_OPTIONS.add_argument("-c", "--constraint", action="append", default=[])
_OPTIONS.add_argument("-e", "--editable", action="append", default=[])
_OPTIONS.add_argument("-f", "--find-links", action="append", default=[])


def base_directories() -> tuple[str, ...]:
    """Where the packages of the interpreter that runs this lie, in the order of ``sys.path``."""
    found = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        found = [site.getusersitepackages(), *found]
    return tuple(dict.fromkeys(path for path in found if Path(path).is_dir()))


@dataclass
class _Asked:
    """What requirements come to: parts of the digest, and whether they ask for any package."""

    parts: list[str] = field(default_factory=list)
    packages: int = 0
    files: set[str] = field(default_factory=set)


class EnvironmentKeys:
    """Computes keys. Reads files, so it is for threads; any number may call it at once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._digests: dict[str, tuple[tuple[int, ...], str]] = {}
        self._base: tuple[tuple[int, ...], str] = ((), "")

    def key(self, requirements: Requirements) -> str:
        """The key of the environment that these need; "" when they ask for no package at all."""
        asked = _Asked([f"pin {pin}" for pin in requirements.pins], len(requirements.pins))
        if requirements.file is not None:
            directory = Path(requirements.file).parent
            self._read(Path(requirements.file), directory, asked)
        if not asked.packages:
            return ""
        if requirements.wheels is not None:
            asked.parts.append(f"wheels {self._digest(Path(requirements.wheels))}")
        parts = [_LAYOUT, sys.version, os.path.realpath(sys.executable), self._base_digest()]
        whole = repr([*parts, *asked.parts])
        return hashlib.sha256(whole.encode()).hexdigest()[:KEY_CHARS]

    def _base_digest(self) -> str:
        """The server's own packages, looked at again when one of their directories changes."""
        directories = base_directories()
        times = tuple(os.stat(path).st_mtime_ns for path in directories)  # noqa: PTH116
        if self._base[0] != times:
            names = [(path, _installed(path)) for path in directories]
            self._base = (times, hashlib.sha256(repr(names).encode()).hexdigest())
        return self._base[1]

    def _read(self, file: Path, directory: Path, asked: _Asked) -> None:
        """One requirements or constraints file and those it names; paths are from ``directory``."""
        if str(file) in asked.files:
            return
        asked.files.add(str(file))
        try:
            content = file.read_bytes() if file.is_file() else None
        except OSError:
            content = None
        if content is None:  # pip is going to say so
            asked.parts.append(f"no file {file.name}")
            asked.packages += 1
            return
        for line in logical_lines(_decoded(content)):
            asked.parts.append(line)
            line = _VARIABLE.sub(lambda found: self._value(found), line)
            if line.startswith("-"):
                self._read_options(line, file, directory, asked)
            else:
                asked.packages += 1
                self._add_path(_local_path(line), directory, asked)

    def _read_options(self, line: str, file: Path, directory: Path, asked: _Asked) -> None:
        try:
            options, _ = _OPTIONS.parse_known_args(shlex.split(line))
        except (argparse.ArgumentError, ValueError):  # pip is going to say so
            asked.packages += 1
            return
        for nested in options.requirement:
            self._read(file.parent / nested, directory, asked)
        before = asked.packages
        for nested in options.constraint:
            self._read(file.parent / nested, directory, asked)
        asked.packages = before  # a constraint asks for nothing
        for path in options.editable:
            asked.packages += 1
            # Such a package stays where it is, so its place is part of what was asked for.
            asked.parts.append(str(directory / path))
            self._add_path(_path(path), directory, asked)
        for path in options.find_links:
            for parent in dict.fromkeys((directory, file.parent)):
                self._add_path(_path(path), parent, asked)

    def _add_path(self, path: str | None, directory: Path, asked: _Asked) -> None:
        if path is not None:
            asked.parts.append(self._digest(directory / path))

    def _value(self, found: re.Match[str]) -> str:
        return self._environment.get(found[1]) or found[0]

    def _digest(self, path: Path) -> str:
        """Of a file, or of everything below a directory; "" when there is neither."""
        if not path.is_dir():
            return self._file_digest(path)
        names = (
            f"{inner.relative_to(path)} {self._file_digest(inner)}" for inner in _files_below(path)
        )
        return hashlib.sha256(repr(list(names)).encode()).hexdigest()

    def _file_digest(self, path: Path) -> str:
        with suppress(OSError):
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                return ""
            version = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            known, digest = self._digests.get(str(path), ((), ""))
            if known != version:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if len(self._digests) >= _REMEMBERED_FILES:
                    self._digests = {}
                self._digests[str(path)] = (version, digest)
            return digest
        return ""


def logical_lines(text: str) -> Iterator[str]:
    """Lines of a requirements file without comments and blanks, continued ones joined."""
    pending = ""
    for line in text.splitlines():
        comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not comment:
            pending += line.strip("\\")
            continue
        whole = _COMMENT.sub("", f"{pending} {line}" if comment else pending + line).strip()
        pending = ""
        if whole:
            yield whole
    if pending.strip():
        yield pending.strip()


def _decoded(content: bytes) -> str:
    """Text as pip reads it: some editors write UTF-16."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "backslashreplace")


def _local_path(line: str) -> str | None:
    """The file or directory that a requirement names, if it does."""
    target = re.split(r"\s;|\s--", line, maxsplit=1)[0].strip()
    named = _NAMED_ADDRESS.fullmatch(target)
    path = _path(named[1] if named else target)
    if path is None or named or target.startswith("file:"):
        return path
    return path if path.startswith(".") or "/" in path or path.endswith(_ARCHIVES) else None


def _path(address: str) -> str | None:
    """A local address as a path, without extras; None for one that is not local."""
    if address.startswith("file:"):
        return url2pathname(urlsplit(address).path)
    return None if "://" in address else re.sub(r"\[[^]]*\]$", "", address).strip()


def _installed(directory: str) -> list[str]:
    """Names of the metadata directories: each has a package's name and version."""
    with os.scandir(directory) as entries:
        return sorted(one.name for one in entries if one.name.endswith(("-info", ".pth")))


def _files_below(directory: Path) -> Iterator[Path]:
    for root, directories, files in os.walk(directory):
        directories[:] = sorted(
            name
            for name in directories
            if name not in _BUILD_LEFTOVERS and not name.endswith(".egg-info")
        )
        yield from (Path(root, name) for name in sorted(files))
