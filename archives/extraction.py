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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from archives.entries import COPY_BYTES, DAMAGE, Entry, Kind, Source, entries_of
from archives.errors import ArchiveError, DiskFull, ExtractionError, Stopped
from archives.quoting import shown

_FREE_BYTES = 64 << 20  # left to the server: logs, sockets; but of small disks only
_FREE_PERCENT = 5
_HEADER_BYTES = 4096  # of a tar for each of its files, generously
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may extract to: bytes in all files together, and entries.

    With the settings that a message names when these are too low, or the disk too small.
    """

    max_bytes: int
    max_files: int
    bytes_setting: str = "MODELYARD_MAX_EXTRACTED_BYTES"
    files_setting: str = "MODELYARD_MAX_EXTRACTED_FILES"
    directory_setting: str = "MODELYARD_EXTRACT_DIR"


def extract_archive(
    archive: Path,
    target: Path,
    limits: ArchiveLimits,
    stop: threading.Event | None = None,
) -> int:
    """Extract a tar.gz, tar or zip (also called .mar); otherwise as ``extract_stream``."""
    try:
        file = archive.open("rb")
    except OSError as error:
        raise _unserved(archive.name, _unreadable(error)) from error
    with file:
        return extract_stream(file, target, limits, name=archive.name, stop=stop)


def extract_stream(
    source: Source,
    target: Path,
    limits: ArchiveLimits,
    *,
    name: str,
    stop: threading.Event | None = None,
    room: Callable[[int], None] | None = None,
) -> int:
    """Extract a tar.gz or tar to ``target``, which must not exist yet; returns its files' bytes.

    ``source`` may be a zip too if it can seek; messages call it ``name``. A model that lies in one
    folder inside of the archive, as multi-model-server's archiver makes it, is taken out of it.
    Links may stay where they lead to something in the archive. Blocks, so it is for a thread; it
    ends early once ``stop`` is set. ``room`` is called before each file is written, with the bytes
    of all files up to and including it; it makes room for them, or raises ``DiskFull``.

    Raises ``ArchiveError`` that says what is wrong with the archive, ``DiskFull``, ``Stopped``,
    ``ExtractionError`` when the target cannot be written, and what ``source`` and ``room`` raise.
    Then, as after any other exception, nothing is left behind.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    except OSError as error:
        raise _failed(target.name, error, limits) from error
    try:
        extraction = _Extraction(beside / "model", limits, stop or threading.Event(), room)
        extraction.add_all(source)
        extraction.finished().rename(target)
    except ArchiveError as error:
        raise _unserved(name, error) from error
    except OSError as error:
        raise _failed(target.name, error, limits) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return extraction.bytes


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


class _Extraction:
    """One archive on its way to the disk: what is there already, and what may still come."""

    def __init__(
        self,
        directory: Path,
        limits: ArchiveLimits,
        stop: threading.Event,
        room: Callable[[int], None] | None,
    ) -> None:
        directory.mkdir()
        self._directory = directory
        self._visible = _visible(directory)
        self._limits = limits
        self._stop = stop
        self._room = room
        self._kinds: dict[str, Kind] = {}
        self._links: dict[str, str] = {}
        self._entries = 0
        self.bytes = 0

    def add_all(self, source: Source) -> None:
        """Write what the archive holds, links excepted."""
        most = self._limits.max_bytes + (self._limits.max_files + 1) * _HEADER_BYTES
        try:
            for entry in entries_of(source, max_inflated_bytes=most):
                self._add(entry)
        except OSError as error:
            raise _unreadable(error) from error
        except DAMAGE as error:
            raise ArchiveError(f"it is damaged ({str(error) or type(error).__name__})") from error

    def _add(self, entry: Entry) -> None:
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
            raise _failed(name, error, self._limits) from error

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
            raise Stopped("The server is stopping.")
        if max(self._entries, len(self._kinds)) > self._limits.max_files:
            raise ArchiveError(
                f"it holds more than {self._limits.max_files} files, the limit that "
                f"{self._limits.files_setting} sets"
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
            self.bytes += len(piece)
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
        if self._room is not None:
            self._room(self.bytes + size)
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        spare = min(_FREE_BYTES, disk.f_blocks * disk.f_frsize * _FREE_PERCENT // 100)
        if size > free - spare:
            raise DiskFull(
                f"The disk of {self._visible} has {free} bytes left, of which {spare} are kept "
                f"free: too few for the archive's next file of {size} bytes; "
                f"{_where(self._limits)}.",
                missing_bytes=size + spare - free,
            )

    def _check_bytes(self, more: int) -> None:
        if self.bytes + more > self._limits.max_bytes:
            raise ArchiveError(
                f"it holds more than {self._limits.max_bytes} bytes, the limit that "
                f"{self._limits.bytes_setting} sets"
            )


def _visible(directory: Path) -> Path:
    """The first directory above that a user knows: where it is to be, not where it is made."""
    while directory.name == "model" or directory.name.startswith((".unfinished-", ".incoming-")):
        directory = directory.parent
    return directory


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


def _unserved(name: str, error: ArchiveError) -> ArchiveError:
    return ArchiveError(f"{shown(name)} cannot be served: {error.message}.")


def _unreadable(error: OSError) -> ArchiveError:
    return ArchiveError(f"it cannot be read ({error.strerror})")


def _failed(name: str, error: OSError, limits: ArchiveLimits) -> ExtractionError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full; {_where(limits)}.")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return ArchiveError(f"{shown(name)} cannot be a file here ({error.strerror})")
    text = f"An archive cannot be extracted: {error.strerror}; {_where(limits)}."
    return ExtractionError(text)


def _where(limits: ArchiveLimits) -> str:
    return f"{limits.directory_setting} says where archives go"
