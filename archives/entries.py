"""What an archive holds, entry by entry: tar, tar.gz and zip, told by their first bytes.

Reads and checks bytes only; what may be written where is decided in ``extraction``. Tar files are
read strictly forwards, so they may come as a stream, and inflated piece by piece, so that a bomb is
stopped where it starts.
"""

from __future__ import annotations

import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import IO, Protocol, cast

from isal import isal_zlib

from archives.errors import ArchiveError

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")

# What people take for a tar.gz.
_OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
}

COPY_BYTES = 1 << 20
_INPUT_BYTES = 1 << 19
_START_BYTES = 4
_MAX_LINK_BYTES = 4096

# Its stubs take it for an instance.
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)

# What the readers raise for damaged archives.
DAMAGE: tuple[type[Exception], ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, _ISAL_ERROR),
    *(
        EOFError,
        NotImplementedError,
        ValueError,
        OverflowError,
        LookupError,
        RuntimeError,
        struct.error,
    ),
)


class Kind(Enum):
    """What an entry becomes."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of an archive. ``target`` is that of a link; ``open`` gives a file's contents."""

    name: str
    kind: Kind
    size: int
    executable: bool
    target: str
    open: Callable[[], IO[bytes]]


class Source(Protocol):
    """What an archive is read from, onwards."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""

    def seekable(self) -> bool:
        """Whether it is a file that can also be read from its end."""


def entries_of(source: Source, *, max_inflated_bytes: int) -> Iterator[Entry]:
    """The members of an archive, in order; each must be read before the next is asked for.

    A zip, whose list is at its end, must be in a file. Raises ``ArchiveError``, the exceptions of
    ``DAMAGE`` and those of ``source``.
    """
    start = b""
    while len(start) < _START_BYTES and (more := source.read(_START_BYTES - len(start))):
        start += more
    if not start.startswith(ZIP):
        return _tar_entries(_Forwards(source, start, max_bytes=max_inflated_bytes), start)
    if not source.seekable():
        raise ArchiveError(
            "it is a zip, which cannot be extracted while it is downloaded; make it a tar.gz"
        )
    return _zip_entries(cast("IO[bytes]", source))


def _tar_entries(source: _Forwards, start: bytes) -> Iterator[Entry]:
    try:
        archive = tarfile.TarFile(fileobj=cast("IO[bytes]", source), errors="surrogateescape")
    except tarfile.ReadError as error:
        for magic, name in _OTHERS.items():
            if start.startswith(magic):
                raise ArchiveError(
                    f"it is {name}, and must be a tar.gz; pack the files again (tar -czf, or "
                    "modelyard pack)"
                ) from error
        kind = "gzip, but holds no tar" if source.gzipped else "neither tar.gz, tar nor zip"
        raise ArchiveError(f"it is {kind} ({error})") from error
    with closing(archive):
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
            yield _tar_entry(archive, member)
    if any(source.last):
        raise ArchiveError("it is damaged: something that is no tar header lies between its files")
    source.finish()


def _tar_entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.isdir():
        kind = Kind.DIRECTORY
    elif member.issym():
        kind = Kind.SYMLINK
    elif member.islnk():
        kind = Kind.HARDLINK
    elif member.isreg():
        kind = Kind.FILE
    else:
        raise _unwanted(member.name, "device, a pipe or the like")
    if member.size < 0:
        raise ArchiveError(f"it is damaged: {member.name!r} has a size below 0")

    def contents() -> IO[bytes]:
        opened = archive.extractfile(member)
        assert opened is not None  # it is a file
        return opened

    return Entry(
        name=member.name,
        kind=kind,
        size=member.size if kind is Kind.FILE else 0,
        executable=bool(member.mode & stat.S_IXUSR),
        target=member.linkname,
        open=contents,
    )


def _unwanted(name: str, what: str) -> ArchiveError:
    return ArchiveError(f"{name!r} is a {what}, which no model needs; make the archive without it")


class _Forwards:
    """A source that is read onwards, inflated on the way if it is gzip.

    ``start`` is what was read of it already. Checks gzip's checksums, refuses to inflate more than
    ``max_bytes``, and to hand out more at once than a file is copied by: whoever asks for that
    reads a header made to fill the memory.
    """

    def __init__(self, source: Source, start: bytes, *, max_bytes: int) -> None:
        self.gzipped = start.startswith(GZIP)
        self._source = source
        self._max_bytes = max_bytes
        self._inflater = isal_zlib.decompressobj(wbits=31) if self.gzipped else None
        self._input = start if self.gzipped else b""
        self._ready = memoryview(b"" if self.gzipped else start)
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Skip forwards to ``position``."""
        if position < self._position:
            raise ArchiveError("it is damaged: a file in it points back")
        while position > self._position:
            if not self.read(min(position - self._position, COPY_BYTES)):
                raise ArchiveError("it ends too early; it was not written or copied completely")
        return self._position

    def read(self, count: int) -> bytes:
        if count > COPY_BYTES:
            raise ArchiveError("it is damaged: a header in it is too long")
        parts: list[bytes] = []
        missing = count
        while missing > 0 and (part := self._some(missing)):
            parts.append(part)
            missing -= len(part)
        self.last = parts[0] if len(parts) == 1 else b"".join(parts)
        self._position += len(self.last)
        return self.last

    def finish(self) -> None:
        """Read what follows the last file, so that the last checksum is checked too."""
        while self._inflater is not None and self.read(COPY_BYTES):
            pass

    def close(self) -> None:
        """The source is the caller's."""

    def _some(self, most: int) -> bytes:
        if not self._ready and self._inflater is None:
            self._ready = memoryview(self._source.read(_INPUT_BYTES))
        elif not self._ready:
            self._ready = memoryview(self._inflate())
            if self._position + len(self._ready) > self._max_bytes:
                raise ArchiveError(f"it holds more than {self._max_bytes} bytes")
        part = bytes(self._ready[:most])
        self._ready = self._ready[most:]
        return part

    def _inflate(self) -> bytes:
        """The next piece, of any length up to that of a copy; nothing at the end."""
        assert self._inflater is not None
        while True:
            if self._inflater.eof:  # other members may follow, then padding or garbage
                following = self._inflater.unused_data
                if len(following) < len(GZIP):
                    following += self._source.read(_INPUT_BYTES)
                if not following.startswith(GZIP):
                    return b""
                self._inflater = isal_zlib.decompressobj(wbits=31)
                self._input = following
            given = self._input or self._source.read(_INPUT_BYTES)
            if not given:
                raise ArchiveError("it ends too early; it was not written or copied completely")
            piece = self._inflater.decompress(given, COPY_BYTES)
            self._input = self._inflater.unconsumed_tail
            if piece:
                return piece


def _zip_entries(file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            yield _zip_entry(archive, member)


def _zip_entry(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Entry:
    mode = member.external_attr >> 16 if member.create_system == 3 else 0  # 3: Unix
    if member.flag_bits & 1:
        raise ArchiveError(f"{member.filename!r} is encrypted; make the archive without a password")
    if stat.S_ISLNK(mode):
        kind = Kind.SYMLINK
    elif member.is_dir():
        kind = Kind.DIRECTORY
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        kind = Kind.FILE
    else:
        raise _unwanted(member.filename, "device, a pipe or the like")
    return Entry(
        name=member.filename,
        kind=kind,
        size=member.file_size if kind is Kind.FILE else 0,
        executable=bool(mode & stat.S_IXUSR),
        target=_zip_link(archive, member) if kind is Kind.SYMLINK else "",
        open=lambda: archive.open(member),
    )


def _zip_link(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    if member.file_size > _MAX_LINK_BYTES:
        raise ArchiveError(f"{member.filename!r} is a link with a target that is too long")
    with archive.open(member) as opened:
        return opened.read(_MAX_LINK_BYTES).decode("utf-8", "surrogateescape")
