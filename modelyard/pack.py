"""``modelyard pack``: the archive of a model's directory, with the files in its root.

What a server would refuse is refused here. The same directory makes the same bytes, whoever packs
it and when.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import os
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from archives.extraction import ArchiveLimits
from container.environment import current_environment, settings_from
from handlers.errors import HandlerError
from model_server.settings import Settings, SettingsError
from modelyard.found import Found, look_at
from modelyard.pitfalls import pitfalls
from modelyard.report import in_words

# Left out: what tools leave behind, and what a Mac adds.
_LEFT_OUT = frozenset({"__pycache__", ".git", ".DS_Store", "__MACOSX", ".ipynb_checkpoints"})
_COMPRESSION = 6


class PackError(Exception):
    """Raised for a directory that no server would take as an archive."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What was put into an archive."""

    files: int
    bytes: int


def main(arguments: Sequence[str]) -> int:
    """Run ``modelyard pack``; returns the exit code."""
    options = _options(arguments)
    directory: Path = options.directory
    if not directory.is_dir():
        return _told(f"there is no directory {directory}", 2)
    output: Path = options.output or Path(f"{directory.resolve().name or 'model'}.tar.gz")
    if problem := _misplaced(output, directory):
        return _told(problem, 2)
    environment = current_environment()
    try:
        settings = settings_from(Settings, environment, {})
        limits = ArchiveLimits(settings.max_extracted_bytes, settings.max_extracted_files)
        found = look_at(directory, settings, environment)
        packed = pack_archive(directory, output, limits)
    except (PackError, HandlerError) as error:
        return _told(f"not packed: {error}", 1)
    except (SettingsError, OSError) as error:
        return _told(str(error), 2)
    print(_summary(output, packed, found))  # noqa: T201
    for warning in pitfalls(directory):
        print(f"Warning: {warning}")  # noqa: T201
    return 0


def _misplaced(output: Path, directory: Path) -> str | None:
    """What is wrong with where the archive is to go; None when nothing is."""
    if not output.name.endswith((".tar.gz", ".tgz")):
        return f"{output} should end in .tar.gz, which is what it will be"
    if _place(output).is_relative_to(directory.resolve()):
        return f"{output} would lie in the directory itself, and the next archive would hold it"
    return None


def _told(message: str, code: int) -> int:
    print(f"modelyard pack: {message}", file=sys.stderr)  # noqa: T201
    return code


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelyard pack",
        description="Make the tar.gz of a model's directory, after a look at whether it can be "
        "served. `modelyard check` tries it.",
        epilog="Exit code: 0 packed, 1 the directory cannot be served, 2 it could not be done.",
    )
    parser.add_argument("directory", type=Path, help="what lies in it will be the archive's root")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: DIRECTORY.tar.gz, here"
    )
    return parser.parse_args(arguments)


def _summary(output: Path, packed: Packed, found: Found) -> str:
    size = in_words(output.stat().st_size)
    what = found.script or found.artifact or "it"
    return (
        f"{output}: {size}; {packed.files} files, {in_words(packed.bytes)}\n"
        f"{what} will be served with {found.framework} ({found.interface})"
    )


def pack_archive(directory: Path, archive: Path, limits: ArchiveLimits) -> Packed:
    """Write ``directory`` to ``archive`` as tar.gz; an archive that was there is replaced.

    Links to files outside become files. Raises ``PackError`` for what a server would refuse, and
    OSError when something cannot be read or written.
    """
    fd, unfinished = tempfile.mkstemp(prefix=f".{archive.name}-", dir=archive.parent)
    try:
        with os.fdopen(fd, "wb") as raw:
            packed = _write(directory, raw, limits, leave_out={archive, Path(unfinished)})
        Path(unfinished).chmod(0o644)
        Path(unfinished).replace(archive)
    finally:
        with suppress(FileNotFoundError):
            Path(unfinished).unlink()
    return packed


def _write(directory: Path, raw: IO[bytes], limits: ArchiveLimits, leave_out: set[Path]) -> Packed:
    skipped = {_place(path) for path in leave_out}
    entries = files = size = 0
    with (
        gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as deflated,
        tarfile.open(fileobj=deflated, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _entries(directory):
            if _place(path) in skipped:
                continue
            info = _header(directory, path)
            entries, files, size = entries + 1, files + info.isfile(), size + info.size
            if entries > limits.max_files:
                raise PackError(f"it holds more than {limits.max_files} files")
            if size > limits.max_bytes:
                raise PackError(f"it holds more than {limits.max_bytes} bytes")
            if info.isfile():
                with path.open("rb") as contents:
                    tar.addfile(info, contents)
            else:
                tar.addfile(info)
    return Packed(files, size)


def _place(path: Path) -> Path:
    """Where a path really lies; if it is a link, where that lies."""
    return Path(os.path.realpath(path.parent), path.name)


def _entries(directory: Path) -> Iterator[Path]:
    """Everything below a directory in the order of names, directories before what is in them."""
    for path in sorted(directory.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("._"):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _entries(path)


def _header(directory: Path, path: Path) -> tarfile.TarInfo:
    """The entry of one path: nothing of who packs it, or when."""
    name = str(path.relative_to(directory))
    info = tarfile.TarInfo(name)
    if path.is_symlink() and _is_a_loop(path):
        raise PackError(f"{name} is a link that leads back to itself")
    is_link = path.is_symlink() and _stays_inside(directory, path)
    if path.is_symlink() and not is_link and not path.is_file():
        raise PackError(f"{name} is a link to {path.readlink()}, which leads out of the directory")
    status = path.lstat() if is_link else path.stat()
    if is_link:
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    else:
        raise PackError(f"{name} is a device, a pipe or the like, which no model needs")
    executable = stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IXUSR
    info.mode = 0o755 if executable else 0o644
    return info


def _is_a_loop(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _stays_inside(directory: Path, link: Path) -> bool:
    """Whether a link can stay one: relative, and to something in the directory."""
    if link.readlink().is_absolute():
        return False
    return Path(os.path.realpath(link)).is_relative_to(os.path.realpath(directory))
