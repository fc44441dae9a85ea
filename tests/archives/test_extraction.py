"""Archives, good and hostile: what comes out is what a model needs, and never lies outside."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archives.errors import ArchiveError, DiskFull, ExtractionError, Stopped
from archives.extraction import ArchiveLimits, extract_archive, extract_stream, model_root

LIMITS = ArchiveLimits(max_bytes=10 << 20, max_files=100)
FILES = {"code/inference.py": b"def model_fn(model_dir): ...\n", "model.bin": bytes(3 << 20)}

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"data", mode: int = 0o644) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return info, data


def special(name: str, kind: bytes, target: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def symlink(name: str, target: str) -> Member:
    return special(name, tarfile.SYMTYPE, target)


def hardlink(name: str, target: str) -> Member:
    return special(name, tarfile.LNKTYPE, target)


def folder(name: str) -> Member:
    return special(name, tarfile.DIRTYPE)


def tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    return tar(*(file(name, data) for name, data in files.items()))


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def zip_with(name: str, mode: int, data: bytes) -> bytes:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, data)
    return out.getvalue()


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., Path]:
    """Extracts these bytes, and sees to it that a failure leaves nothing."""
    numbers = iter(range(1000))

    def extract_one(data: bytes, limits: ArchiveLimits = LIMITS, name: str = "a.tar.gz") -> Path:
        number = next(numbers)
        archive = tmp_path / name
        archive.write_bytes(data)
        target = tmp_path / f"out-{number}" / "model"
        try:
            extract_archive(archive, target, limits)
        except ExtractionError:
            assert list(target.parent.iterdir()) == []
            raise
        assert list(target.parent.iterdir()) == [target]
        return target

    return extract_one


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(tar_of(FILES)),
        tar_of(FILES),
        zip_of(FILES),
        gzip.compress(tar_of(FILES)[:1000]) + gzip.compress(tar_of(FILES)[1000:]),
        gzip.compress(tar_of(FILES)) + bytes(1000),
    ],
    ids=["tar.gz", "tar", "zip or mar", "gzip in two parts", "padded"],
)
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.mar", "a"])
def test_the_format_is_told_by_the_bytes_and_not_by_the_name(
    extract: Callable[..., Path], data: bytes, name: str
) -> None:
    assert contents(extract(data, name=name)) == FILES


def test_what_a_mac_adds_is_left_out(extract: Callable[..., Path]) -> None:
    added = {"._model.bin": b"x", "code/._inference.py": b"x", "__MACOSX/a": b"x", ".DS_Store": b""}
    assert contents(extract(tar_of({**added, **FILES}))) == FILES


def test_names_that_start_with_a_dot_and_a_slash_are_usual(extract: Callable[..., Path]) -> None:
    members = [folder("./"), folder("./code/"), file("./code/inference.py"), file("./a//b")]
    assert set(contents(extract(tar(*members)))) == {"code/inference.py", "a/b"}


def test_the_last_of_two_files_of_one_name_counts(extract: Callable[..., Path]) -> None:
    members = [file("a", b"old"), hardlink("b", "a"), file("a", b"new")]
    assert contents(extract(tar(*members))) == {"a": b"new", "b": b"old"}


def test_only_the_right_to_execute_is_kept(extract: Callable[..., Path]) -> None:
    out = extract(tar(file("run", mode=0o6755), file("read", mode=0o000)))
    assert stat.S_IMODE((out / "run").stat().st_mode) & 0o7711 == 0o711
    assert stat.S_IMODE((out / "read").stat().st_mode) & 0o7711 == 0o600


def test_sparse_files_come_out_whole(extract: Callable[..., Path], tmp_path: Path) -> None:
    header = (
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
        b"26 GNU.sparse.name=sparse\n31 GNU.sparse.realsize=1000000\n"
    )
    pax = tarfile.TarInfo("PaxHeaders/sparse")
    pax.type, pax.size = tarfile.XHDTYPE, len(header)
    data = b"1\n500000\n4\n".ljust(512, b"\0") + b"here"
    out = extract(tar((pax, header), file("GNUSparseFile/sparse", data)))
    assert contents(out) == {"sparse": bytes(500000) + b"here" + bytes(499996)}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([file("/etc/x")], ["'/etc/x'", "absolute"]),
        ([file("../x")], ["'../x'", "leads out"]),
        ([file("a/../../x")], ["leads out"]),
        ([symlink("a", "/etc/passwd")], ["'a'", "'/etc/passwd'", "outside"]),
        ([symlink("a", "../x")], ["outside"]),
        ([symlink("d", "."), symlink("x", "d/d/..")], ["outside"]),
        ([symlink("d", ".."), file("d/x")], ["'d'", "link", "directory"]),
        ([symlink("a", "b"), file("a")], ["'a'", "link", "file"]),
        ([file("a"), file("a/b")], ["'a'", "file", "directory"]),
        ([folder("a"), file("a")], ["'a'", "file", "directory"]),
        ([hardlink("a", "/etc/passwd")], ["absolute"]),
        ([hardlink("a", "../x")], ["leads out"]),
        ([hardlink("a", "b")], ["'a'", "'b'", "not in it"]),
        ([symlink("a", "")], ["'a'", "link"]),
        ([special("a", tarfile.CHRTYPE)], ["'a'", "device"]),
        ([special("a", tarfile.FIFOTYPE)], ["'a'", "pipe"]),
        ([file("n" * 256)], ["cannot be a file"]),
        ([], ["no files"]),
        ([folder("./")], ["no files"]),
        ([file(f"f{n}", b"") for n in range(101)], ["100 files", "MODELYARD_MAX_EXTRACTED_FILES"]),
        ([file("/".join("d" * 100) + "/f")], ["100 files"]),
        ([file("same", b"")] * 101, ["100 files"]),
        ([file("big", bytes(11 << 20))], ["10485760 bytes", "MODELYARD_MAX_EXTRACTED_BYTES"]),
        ([file("a", bytes(6 << 20)), file("b", bytes(6 << 20))], ["10485760 bytes"]),
        ([file("a", bytes(6 << 20)), file("a", bytes(6 << 20))], ["10485760 bytes"]),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_what_must_not_be_extracted_is_refused(
    extract: Callable[..., Path],
    pack: Callable[[bytes], bytes],
    members: list[Member],
    words: list[str],
) -> None:
    with pytest.raises(ArchiveError, match=r"'a.tar.gz' cannot be served: ") as told:
        extract(pack(tar(*members)))
    for word in words:
        assert word in told.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zip_of({"../x": b""}), ["leads out"]),
        (zip_of({"/x": b""}), ["absolute"]),
        (zip_of({"a": b"", "a/b": b""}), ["'a'"]),
        (zip_of({"big": bytes(11 << 20)}), ["10485760 bytes"]),
        (zip_of({f"f{n}": b"" for n in range(101)}), ["100 files"]),
        (zip_with("link", stat.S_IFLNK | 0o777, b"../x"), ["'link'", "outside"]),
        (zip_with("link", stat.S_IFLNK | 0o777, b"x" * 5000), ["'link'", "too long"]),
        (zip_with("pipe", stat.S_IFIFO | 0o644, b""), ["'pipe'", "pipe"]),
        (zip_of({}), ["no files"]),
    ],
)
def test_what_must_not_be_extracted_from_a_zip_is_refused(
    extract: Callable[..., Path], data: bytes, words: list[str]
) -> None:
    with pytest.raises(ArchiveError) as told:
        extract(data)
    for word in words:
        assert word in told.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive at all",
        gzip.compress(b"gzip, but no tar"),
        gzip.compress(tar_of(FILES))[:-2000],
        gzip.compress(tar_of(FILES))[:-8],
        gzip.compress(tar_of(FILES))[:-8] + bytes(8),
        tar_of(FILES)[: 2 << 20],
        tar_of(FILES)[:512],
        tar_of(FILES)[:1024] + b"x" * 1024 + tar_of(FILES)[1024:],
        zip_of(FILES)[:-10],
        zip_of(FILES).replace(b"PK\x01\x02", b"PK\x01\x00"),
        b"\x28\xb5\x2f\xfd" + bytes(100),
    ],
)
def test_a_damaged_archive_is_refused(extract: Callable[..., Path], data: bytes) -> None:
    with pytest.raises(ArchiveError):
        extract(data)


@pytest.mark.parametrize(
    ("pack", "name"),
    [
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "lzma"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd"),
        (lambda data: b"7z\xbc\xaf\x27\x1c" + data, "7z"),
    ],
)
def test_another_kind_of_archive_is_called_by_its_name(
    extract: Callable[..., Path], pack: Callable[[bytes], bytes], name: str
) -> None:
    with pytest.raises(
        ArchiveError, match=rf"it is {name}, and must be a tar\.gz; pack .*tar -czf"
    ):
        extract(pack(tar_of(FILES)))


def test_a_tar_whose_first_file_is_named_like_another_kind_is_a_tar(
    extract: Callable[..., Path],
) -> None:
    assert contents(extract(tar_of({"BZh": b"x"}))) == {"BZh": b"x"}


def test_a_header_of_gigabytes_is_not_read_into_memory(extract: Callable[..., Path]) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    with pytest.raises(ArchiveError, match="too long"):
        extract(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16)))


def test_zeros_without_end_after_the_last_file_are_not_read(extract: Callable[..., Path]) -> None:
    with pytest.raises(ArchiveError, match="more than"):
        extract(gzip.compress(tar_of({"a": b"x"}) + bytes(20 << 20)))


def test_links_inside_work_as_in_the_caches_of_hugging_face(extract: Callable[..., Path]) -> None:
    out = extract(
        tar(
            symlink("snapshots/1/model.bin", "../../blobs/abc"),
            file("blobs/abc", b"weights"),
            hardlink("blobs/same", "blobs/abc"),
            hardlink("snapshots/2/model.bin", "snapshots/1/model.bin"),
            symlink("blobs/there", "."),
        )
    )
    assert (out / "snapshots/1/model.bin").read_bytes() == b"weights"
    assert (out / "snapshots/2/model.bin").is_symlink()
    assert (out / "blobs/same").samefile(out / "blobs/abc")


def test_a_model_in_one_folder_is_taken_out_of_it(extract: Callable[..., Path]) -> None:
    wrapped = {"resnet/MAR-INF/MANIFEST.json": b"{}", "resnet/service.py": b"", "._resnet": b""}
    assert set(contents(extract(tar_of(wrapped)))) == {"MAR-INF/MANIFEST.json", "service.py"}


def test_a_link_out_of_that_folder_is_refused(extract: Callable[..., Path]) -> None:
    with pytest.raises(ArchiveError, match="outside"):
        extract(tar(file("m/inference.py"), symlink("m/a", "..")))


@pytest.mark.parametrize(
    "names",
    [
        ["code/inference.py"],
        ["MAR-INF/MANIFEST.json"],
        ["saved_model/weights.bin"],
        ["1/saved_model.pb", "1/variables/variables.index"],
        ["one/inference.py", "other.txt"],
    ],
)
def test_a_folder_that_may_be_meant_so_is_left(
    extract: Callable[..., Path], names: list[str]
) -> None:
    out = extract(tar_of(dict.fromkeys(names, b"")))
    assert set(contents(out)) == set(names)
    assert model_root(out) == out


def test_it_ends_early_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    (tmp_path / "a.tar").write_bytes(tar_of(FILES))
    with pytest.raises(Stopped, match="stopping"):
        extract_archive(tmp_path / "a.tar", tmp_path / "out" / "a", LIMITS, stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 1 << 50
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    limits = ArchiveLimits(max_bytes=1 << 60, max_files=10)
    words = rf"disk of {tmp_path}/out has \d+ bytes left, of which \d+ are kept free.*_EXTRACT_DIR"
    with pytest.raises(DiskFull, match=words) as told:
        extract_archive(tmp_path / "a.tar", tmp_path / "out" / "a", limits)
    assert told.value.missing_bytes > 1 << 49
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_that_is_missing_or_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for name in ("missing", "directory"):
        with pytest.raises(ArchiveError, match="cannot be read"):
            extract_archive(tmp_path / name, tmp_path / "out" / "a", LIMITS)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "a.tar").write_bytes(tar_of(FILES))
    with pytest.raises(ExtractionError, match="MODELYARD_EXTRACT_DIR"):
        extract_archive(tmp_path / "a.tar", tmp_path / "file" / "a", LIMITS)


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(FILES))
    with pytest.raises(FileExistsError):
        extract_archive(tmp_path / "a.tar", tmp_path, LIMITS)


NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "c\0d", "é", "\udcff", "n" * 300]),
    min_size=1,
    max_size=4,
).map("/".join)
KINDS = [
    *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE),
    *(tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"Z"),
]


@st.composite
def members(draw: st.DrawFn) -> Member:
    info = tarfile.TarInfo(draw(NAMES))
    info.type = draw(st.sampled_from(KINDS))
    info.linkname = draw(NAMES | NAMES.map(lambda name: f"/{name}"))
    info.mode = draw(st.integers(0, 0o7777))
    data = draw(st.binary(max_size=600))
    info.size = len(data) if info.isreg() else 0
    return info, data


def outside(around: Path, inside: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(around.rglob("*")):
        if inside not in (path, *path.parents):
            yield str(path), path.lstat().st_mtime_ns if path.is_file() else 0


def tar_bytes(drawn: list[Member]) -> bytes:
    """Header by header: the tarfile module would refuse or mend some of them."""
    out = b""
    for info, data in drawn:
        out += info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
        out += data[: info.size].ljust(-(-info.size // 512) * 512, b"\0")
    return out + bytes(1024)


@settings(deadline=None, max_examples=150)
@given(
    drawn=st.lists(members(), max_size=6),
    damage=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
    zipped=st.booleans(),
)
def test_whatever_is_in_an_archive_nothing_is_written_outside(
    drawn: list[Member], damage: list[tuple[int, int]], zipped: bool
) -> None:
    data = bytearray(tar_bytes(drawn))
    for place, value in damage:
        data[place % len(data)] = value
    with tempfile.TemporaryDirectory() as name:
        around = Path(name)
        archive, target = around / "x" / "a", around / "x" / "out" / "model"
        archive.parent.mkdir()
        archive.write_bytes(gzip.compress(data, 1) if zipped else data)
        (around / "x" / "b").write_bytes(b"untouched")
        (around / "a").write_bytes(b"untouched")
        before = list(outside(around, target.parent))
        try:
            extract_archive(archive, target, LIMITS)
        except ExtractionError:
            assert list(target.parent.iterdir()) == []
        else:
            real = os.path.realpath(target)
            for path in target.rglob("*"):
                assert os.path.realpath(path).startswith(real)
                assert not path.lstat().st_mode & 0o7000
        assert list(outside(around, target.parent)) == before


@settings(deadline=None, max_examples=100)
@given(
    damage=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 5000),
)
def test_a_damaged_zip_ends_in_an_answer(damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(zip_of({"a/b": b"x" * 300, "c": os.urandom(300)}))
    for place, value in damage:
        data[place % len(data)] = value
    with tempfile.TemporaryDirectory() as name:
        archive, target = Path(name) / "a", Path(name) / "out" / "model"
        archive.write_bytes(data[: max(cut, 4)])
        try:
            extract_archive(archive, target, LIMITS)
        except ExtractionError:
            assert list(target.parent.iterdir()) == []


def test_links_that_lead_back_to_themselves_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "loop.tar.gz", "w:gz") as tar:
        for name, target in (("code/x.py", ""), ("a", "b"), ("b", "a")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = (tarfile.SYMTYPE, target) if target else (b"0", "")
            tar.addfile(entry, io.BytesIO())
    with pytest.raises(ArchiveError, match="leads back to itself"):
        extract_archive(tmp_path / "loop.tar.gz", tmp_path / "m", ArchiveLimits(1 << 20, 100))
    assert not (tmp_path / "m").exists()


class Stream:
    """Bytes that come in pieces of any size, and only once."""

    def __init__(self, data: bytes, sizes: Iterator[int]) -> None:
        self._file = io.BytesIO(data)
        self._sizes = sizes

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, next(self._sizes)))

    def seekable(self) -> bool:
        return False


def stream_of(data: bytes, size: int = 1000) -> Stream:
    return Stream(data, itertools.repeat(size))


@pytest.mark.parametrize("size", [1, 3, 511, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_a_stream_is_extracted_whatever_its_pieces(
    tmp_path: Path, pack: Callable[[bytes], bytes], size: int
) -> None:
    files = {"code/inference.py": b"", "model.bin": os.urandom(10_000)}
    source = stream_of(pack(tar_of(files)), size)
    assert extract_stream(source, tmp_path / "id" / "model", LIMITS, name="a") == 10_000
    assert contents(tmp_path / "id" / "model") == files
    assert list((tmp_path / "id").iterdir()) == [tmp_path / "id" / "model"]


def test_a_gzip_in_two_parts_may_break_anywhere(tmp_path: Path) -> None:
    first, second = (gzip.compress(part) for part in (tar_of(FILES)[:999], tar_of(FILES)[999:]))
    for around in range(-3, 4):
        sizes = itertools.chain([4, len(first) + around - 4], itertools.repeat(10_000))
        source = Stream(first + second, sizes)
        extract_stream(source, tmp_path / str(around), LIMITS, name="a")
        assert contents(tmp_path / str(around)) == FILES


@settings(deadline=None, max_examples=100)
@given(
    drawn=st.lists(members(), max_size=4),
    damage=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3),
    zipped=st.booleans(),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
)
def test_a_stream_ends_as_the_file_does(
    drawn: list[Member],
    damage: list[tuple[int, int]],
    zipped: bool,
    sizes: list[int],
) -> None:
    data = bytearray(tar_bytes(drawn))
    for place, value in damage:
        data[place % len(data)] = value
    packed = gzip.compress(data, 1) if zipped else bytes(data)
    with tempfile.TemporaryDirectory() as name:
        ends: list[str] = []
        for source in (io.BytesIO(packed), Stream(packed, itertools.cycle(sizes))):
            target = Path(name) / str(len(ends)) / "model"
            try:
                extract_stream(source, target, LIMITS, name="a")
            except ExtractionError as error:
                ends.append(error.message)
            else:
                ends.append(repr(contents(target)))
        assert ends[0] == ends[1]


def test_a_zip_must_be_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"'a' cannot be served: .* zip.* make it a tar\.gz"):
        extract_stream(stream_of(zip_of(FILES)), tmp_path / "id" / "model", LIMITS, name="a")
    assert list((tmp_path / "id").iterdir()) == []


def test_room_is_asked_for_before_each_file_is_written(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def room(size: int) -> None:
        asked.append((size, sum(path.is_file() for path in tmp_path.rglob("*"))))

    source = stream_of(tar_of({"a": b"12", "b": b"", "c/d": b"345"}))
    assert extract_stream(source, tmp_path / "model", LIMITS, name="a", room=room) == 5
    assert asked == [(2, 0), (2, 1), (5, 2)]


def test_room_may_be_refused(tmp_path: Path) -> None:
    def room(size: int) -> None:
        if size > 2:
            raise DiskFull("no room")

    source = stream_of(tar_of({"a": b"12", "b": b"3"}))
    with pytest.raises(DiskFull, match="no room"):
        extract_stream(source, tmp_path / "id" / "model", LIMITS, name="a", room=room)
    assert list((tmp_path / "id").iterdir()) == []


def test_an_archive_over_its_limit_is_refused_before_room_is_asked_for(tmp_path: Path) -> None:
    asked: list[int] = []
    source = stream_of(tar(file("big", bytes(11 << 20))), 1 << 20)
    with pytest.raises(ArchiveError, match="10485760 bytes"):
        extract_stream(source, tmp_path / "m", LIMITS, name="a", room=asked.append)
    assert asked == []


def test_what_the_stream_raises_comes_through_and_nothing_is_left(tmp_path: Path) -> None:
    class Lost(Exception):
        pass

    def sizes() -> Iterator[int]:
        yield from [1000] * 20
        raise Lost

    source = Stream(gzip.compress(tar_of({"a": os.urandom(100_000)})), sizes())
    with pytest.raises(Lost):
        extract_stream(source, tmp_path / "id" / "model", LIMITS, name="a")
    assert list((tmp_path / "id").iterdir()) == []


def test_messages_name_the_settings_of_whoever_extracts(tmp_path: Path) -> None:
    limits = ArchiveLimits(
        *(5, 1), bytes_setting="MY_BYTES", files_setting="MY_FILES", directory_setting="MY_DIR"
    )
    for files, words in (({"a": b"123456"}, "MY_BYTES"), ({"a": b"", "b": b""}, "MY_FILES")):
        with pytest.raises(ArchiveError, match=words):
            extract_stream(stream_of(tar_of(files)), tmp_path / "m", limits, name="a")
    (tmp_path / "file").touch()
    with pytest.raises(ExtractionError, match="MY_DIR"):
        extract_stream(stream_of(b""), tmp_path / "file" / "m", limits, name="a")
