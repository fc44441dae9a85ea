"""The directory of environments: whose it may be, who holds what, a disk full or read-only."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_server.environments.environment_store import EnvironmentStore
from model_server.errors import EnvironmentFailed
from model_server.own_directory import UnsafeDirectory

from ..environment_parts import asking, prepared
from ..packages import make_wheel

KEY = "a" * 32
_READ_ONLY_REMOUNT = 1 | 32

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")

Mount = Callable[..., bool]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None)
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=2m"):
        pytest.skip("may not mount")
    yield place
    assert libc.umount2(bytes(place), 2) == 0


def test_it_is_made_with_its_parents_and_nobody_else_can_write_to_it(tmp_path: Path) -> None:
    store = EnvironmentStore(str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        store.make()
        store.make()
    finally:
        os.umask(before)
    assert [(tmp_path / place).stat().st_mode & 0o777 for place in ("a", "a/b")] == [0o755] * 2


@needs_root
@pytest.mark.parametrize("place", ["a", "a/b"])
def test_in_a_shared_place_it_must_not_be_somebody_elses(tmp_path: Path, place: str) -> None:
    shared = tmp_path / "shared"
    (shared / "a" / "b").mkdir(parents=True)
    shared.chmod(0o1777)
    os.chown(shared / place, 12345, 12345)
    with pytest.raises(UnsafeDirectory, match="12345"):
        EnvironmentStore(str(shared / "a" / "b")).make()
    with pytest.raises(EnvironmentFailed, match="MODELYARD_ENVIRONMENTS_DIR"):
        prepared(shared / "a" / "b", asking(tmp_path, "tiny\n"))


@needs_root
def test_an_environment_that_somebody_else_made_does_not_count(tmp_path: Path) -> None:
    store = EnvironmentStore(str(tmp_path))
    store.path(KEY).mkdir()
    store.finish(KEY, 1.0, ["tiny 1.0"])
    assert store.find(KEY) is not None
    os.chown(store.path(KEY), 12345, 12345)
    assert store.find(KEY) is None


def test_the_exclusive_lock_is_for_one_the_shared_lock_for_many(tmp_path: Path) -> None:
    store = EnvironmentStore(str(tmp_path))
    shared = [store.lock(KEY, fcntl.LOCK_SH) for _ in range(2)]
    assert None not in shared
    assert store.lock(KEY, fcntl.LOCK_EX) is None
    for fd in shared:
        assert fd is not None
        os.close(fd)
    exclusive = store.lock(KEY, fcntl.LOCK_EX)
    assert exclusive is not None
    assert store.lock(KEY, fcntl.LOCK_SH) is None
    os.close(exclusive)


def test_a_stamp_that_is_damaged_does_not_count(tmp_path: Path) -> None:
    store = EnvironmentStore(str(tmp_path))
    store.path(KEY).mkdir()
    (store.path(KEY) / "complete.json").write_text('{"bytes": 1')
    assert store.find(KEY) is None


def test_a_full_disk_is_told_and_nothing_is_left_on_it(tmp_path: Path, disk: Path) -> None:
    make_wheel(tmp_path / "wheels", "large", filler_bytes=8 << 20)
    with pytest.raises(EnvironmentFailed, match="No space is left") as raised:
        prepared(disk / "envs", asking(tmp_path, "large\n", tmp_path / "wheels"))
    assert str(disk) in raised.value.message
    assert list((disk / "envs").iterdir()) == []


def test_what_an_image_brings_is_used_where_nothing_can_be_written(
    tmp_path: Path, disk: Path
) -> None:
    for name in ("tiny", "other"):
        make_wheel(tmp_path / "wheels", name)
    asked = asking(tmp_path / "model", "tiny\n", tmp_path / "wheels")
    made = prepared(disk, asked)
    for lock in disk.glob("*.lock"):
        lock.unlink()
    assert ctypes.CDLL(None).mount(None, bytes(disk), None, _READ_ONLY_REMOUNT, None) == 0
    assert prepared(disk, asked, environments_max_bytes=0) == made
    with pytest.raises(EnvironmentFailed, match="Read-only file system"):
        prepared(disk, asking(tmp_path / "new", "other\n", tmp_path / "wheels"))


def test_what_an_image_brings_is_used_beside_what_is_built_elsewhere(
    tmp_path: Path, disk: Path
) -> None:
    for name in ("tiny", "other"):
        make_wheel(tmp_path / "wheels", name)
    brought = asking(tmp_path / "model", "tiny\n", tmp_path / "wheels")
    new = asking(tmp_path / "new", "other\n", tmp_path / "wheels")
    made = prepared(disk, brought)
    assert ctypes.CDLL(None).mount(None, bytes(disk), None, _READ_ONLY_REMOUNT, None) == 0
    own = tmp_path / "own"
    used, built = prepared(own, brought, new, built_environments_dir=str(disk))
    assert [used] == made
    assert built.python.startswith(str(own))
    assert not (own / used.key).exists()
