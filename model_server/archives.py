"""From an archive to a model's directory, whatever the archive holds.

Nothing is ever written outside of the directory, and nothing half: files go to a directory beside
the target, which takes the target's name when all is well. Links are made when no file is left to
be written, so that none is written through a link; then each is followed, and must end inside.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from model_server.archive_entries import COPY_BYTES, DAMAGE, ArchiveError, Entry, Kind, entries_of
from model_server.errors import ServerError, ServerUnavailable
from model_server.model_dirs import shown

__all__ = [
    "ArchiveError",
    "ArchiveLimits",
    "DiskFull",
    "extract_archive",
    "model_root",
]

_FREE_BYTES = 64 << 20  # left to the server: logs, sockets
_HEADER_BYTES = 4096  # of a tar for each of its files, generously
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHERE = "MODELYARD_EXTRACT_DIR says where archives go"


class DiskFull(ServerError):
    """Raised when an archive does not fit on the disk."""

    status, kind = 507, "InsufficientStorageException"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may extract to: bytes in all files together, and entries."""

    max_bytes: int
    max_files: int


def extract_archive(
    archive: Path,
    target: Path,
    limits: ArchiveLimits,
    stop: threading.Event | None = None,
) -> None:
    """Extract a tar.gz, tar or zip (also called .mar) to ``target``, which must not exist yet.

    A model that lies in one folder inside of the archive, as multi-model-server's archiver makes
    it, is taken out of it. Links may stay where they lead to something in the archive. Blocks, so
    it is for a thread; it ends early once ``stop`` is set.

    Raises ``ArchiveError`` that says what is wrong with the archive, ``DiskFull``, or
    ``ServerUnavailable`` when stopped. Then, as after any other exception, nothing is left behind.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    except OSError as error:
        raise _failed(target.name, error) from error
    try:
        root = _extract_into(beside / "model", archive, limits, stop or threading.Event())
        root.rename(target)
    except ArchiveError as error:
        raise ArchiveError(f"{shown(archive.name)} cannot be served: {error.message}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def model_root(directory: Path) -> Path:
    """Where the model is: the directory, or the one folder in it that holds all of a model.

    A folder that could be what a script from elsewhere expects is left as it is.
    """
    names = [name for name in os.listdir(directory) if not _is_of_a_mac(name)]  # noqa: PTH208
    if len(names) != 1 or names == ["code"]:
        return directory
    inner = directory / names[0]
    if inner.is_symlink():  # it could lead anywhere
        return directory
    signs = ("MAR-INF/MANIFEST.json", "inference.py", "modelyard.toml")
    has_code = any((inner / "code").glob("*.py"))
    return inner if has_code or any((inner / sign).is_file() for sign in signs) else directory


def _extract_into(
    directory: Path, archive: Path, limits: ArchiveLimits, stop: threading.Event
) -> Path:
    extraction = _Extraction(directory, limits, stop)
    most = limits.max_bytes + (limits.max_files + 1) * _HEADER_BYTES
    try:
        with archive.open("rb") as file:
            for entry in entries_of(file, max_inflated_bytes=most):
                extraction.add(entry)
    except OSError as error:
        raise ArchiveError(f"it cannot be read ({error.strerror})") from error
    except DAMAGE as error:
        raise ArchiveError(f"it is damaged ({str(error) or type(error).__name__})") from error
    return extraction.finished()


class _Extraction:
    """One archive on its way to the disk: what is there already, and what may still come."""

    def __init__(self, directory: Path, limits: ArchiveLimits, stop: threading.Event) -> None:
        directory.mkdir()
        self._directory = directory
        self._limits = limits
        self._stop = stop
        self._kinds: dict[str, Kind] = {}
        self._links: dict[str, str] = {}
        self._bytes = 0
        self._entries = 0

    def add(self, entry: Entry) -> None:
        """Write one entry, or remember it if it is a symbolic link."""
        self._entries += 1
        self._check_count()
        parts = _parts(entry.name)
        if not parts or any(map(_is_of_a_mac, parts)):
            return
        name = "/".join(parts)
        try:
            self._make_directories(parts if entry.kind is Kind.DIRECTORY else parts[:-1])
            if entry.kind is Kind.FILE:
                self._write(name, entry)
            elif entry.kind is Kind.SYMLINK:
                self._claim(name, Kind.SYMLINK)
                self._links[name] = entry.target
            elif entry.kind is Kind.HARDLINK:
                self._link(name, "/".join(_parts(entry.target)))
        except OSError as error:
            raise _failed(name, error) from error

    def finished(self) -> Path:
        """Make the symbolic links; return where the model is."""
        if not self._kinds:
            raise ArchiveError("it holds no files")
        for name, target in self._links.items():
            try:
                self._path(name).symlink_to(target)
            except (OSError, ValueError) as error:
                raise ArchiveError(f"{shown(name)} is a link that cannot be made") from error
        for name in self._links:
            self._check_no_loop(name)
        root = model_root(self._directory)
        real_root = os.path.realpath(root)
        for name, target in self._links.items():
            real = os.path.realpath(self._path(name))
            if target.startswith("/") or os.path.commonpath((real, real_root)) != real_root:
                raise ArchiveError(
                    f"{shown(name)} is a link to {shown(target)}, outside of the archive; make it "
                    "with the file in the place of the link (tar -h, or modelyard pack)"
                )
        return root

    def _check_no_loop(self, name: str) -> None:
        try:
            self._path(name).stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ArchiveError(f"{shown(name)} is a link that leads back to itself") from error

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _check_count(self) -> None:
        if self._stop.is_set():
            raise ServerUnavailable("The server is stopping.")
        if max(self._entries, len(self._kinds)) > self._limits.max_files:
            raise ArchiveError(
                f"it holds more than {self._limits.max_files} files, the limit that "
                "MODELYARD_MAX_EXTRACTED_FILES sets"
            )

    def _claim(self, name: str, kind: Kind) -> None:
        """Take a name for a new entry. A file or link may come again, and the last one counts."""
        before = self._kinds.setdefault(name, kind)
        self._check_count()
        if before is not kind:
            raise ArchiveError(f"{shown(name)} is both a {before.value} and a {kind.value} in it")

    def _make_directories(self, parts: list[str]) -> None:
        for count in range(1, len(parts) + 1):
            name = "/".join(parts[:count])
            if self._kinds.get(name) is not Kind.DIRECTORY:
                self._claim(name, Kind.DIRECTORY)
                self._path(name).mkdir(0o755)

    def _write(self, name: str, entry: Entry) -> None:
        self._check_space(entry.size)
        path = self._new_file(name)
        fd = os.open(path, _NEW_FILE, 0o755 if entry.executable else 0o644)
        with open(fd, "wb") as file, entry.open() as contents:  # noqa: PTH123 - of a descriptor
            self._copy(contents, file)

    def _copy(self, contents: IO[bytes], file: IO[bytes]) -> None:
        while piece := contents.read(COPY_BYTES):
            self._check_count()
            self._bytes += len(piece)
            self._check_bytes(0)
            file.write(piece)

    def _link(self, name: str, target: str) -> None:
        """A hard link: one more name for a file that is there."""
        kind = self._kinds.get(target)
        if kind is Kind.SYMLINK:
            self._claim(name, kind)
            self._links[name] = self._links[target]
        elif kind is not Kind.FILE:
            raise ArchiveError(
                f"{shown(name)} is a hard link to {shown(target)}, which is not in it before"
            )
        elif name != target:
            os.link(self._path(target), self._new_file(name), follow_symlinks=False)

    def _new_file(self, name: str) -> Path:
        """The path of a file that is not there; an earlier one of that name goes."""
        again = name in self._kinds
        self._claim(name, Kind.FILE)
        path = self._path(name)
        if again:
            path.unlink()
        return path

    def _check_space(self, size: int) -> None:
        self._check_bytes(size)
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        if size > free - _FREE_BYTES:
            raise DiskFull(
                f"{self._directory} has {free} bytes left, too few for the archive's next file of "
                f"{size} bytes; {_WHERE}."
            )

    def _check_bytes(self, more: int) -> None:
        if self._bytes + more > self._limits.max_bytes:
            raise ArchiveError(
                f"it holds more than {self._limits.max_bytes} bytes, the limit that "
                "MODELYARD_MAX_EXTRACTED_BYTES sets"
            )


def _parts(name: str) -> list[str]:
    """The directories and the file of a name, which must stay inside."""
    if name.startswith("/"):
        raise ArchiveError(f"{shown(name)} is an absolute path; make it from inside the directory")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"{shown(name)} leads out of it; make it from inside the directory")
    if "\0" in name:
        raise ArchiveError(f"{shown(name)} is no file name")
    return parts


def _is_of_a_mac(name: str) -> bool:
    """What a Mac puts beside the files themselves."""
    return name.startswith("._") or name in ("__MACOSX", ".DS_Store")


def _failed(name: str, error: OSError) -> ServerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full; {_WHERE}.")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return ArchiveError(f"{shown(name)} cannot be a file here ({error.strerror})")
    return ServerError(f"An archive cannot be extracted: {error.strerror}; {_WHERE}.")
