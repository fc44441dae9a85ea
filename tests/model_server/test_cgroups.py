"""Which limit of memory counts, read from trees of files as kernels lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from model_server.cgroups import memory_group

MIB = 1 << 20
UNLIMITED_V1 = 9223372036854771712


def lay_out(root: Path, files: Mapping[str, object], *, own: str = "") -> Path:
    """A tree of files; ``own`` is the text of /proc/self/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    if own:
        (root / "proc/self/cgroup").write_text(own)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def limit(root: Path) -> int | None:
    group = memory_group(root)
    return group.limit_bytes if group else None


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_group(tmp_path) is None


def test_v2_of_a_container_with_its_own_namespace(tmp_path: Path) -> None:
    assert limit(lay_out(tmp_path, {"memory.max": 300 * MIB}, own="0::/\n")) == 300 * MIB


def test_v2_without_a_limit(tmp_path: Path) -> None:
    files = {"memory.max": "max", "memory.high": "max", "a/memory.max": "max"}
    assert memory_group(lay_out(tmp_path, files, own="0::/a\n")) is None


@pytest.mark.parametrize(("outer", "inner"), [(500, 300), (300, 500)])
def test_v2_the_smallest_limit_on_the_way_up_counts(tmp_path: Path, outer: int, inner: int) -> None:
    files = {
        "pods/memory.max": outer * MIB,
        "pods/one/memory.max": "max",
        "pods/one/main/memory.max": inner * MIB,
        "pods/other/memory.max": MIB,
    }
    assert limit(lay_out(tmp_path, files, own="0::/pods/one/main\n")) == 300 * MIB


def test_v2_the_mark_above_which_the_kernel_brakes_is_a_limit(tmp_path: Path) -> None:
    files = {"a/memory.max": 500 * MIB, "a/memory.high": 400 * MIB}
    assert limit(lay_out(tmp_path, files, own="0::/a\n")) == 400 * MIB


def test_v1_of_a_container_that_sees_its_own_group_as_the_mount(tmp_path: Path) -> None:
    own = "9:name=systemd:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"
    files = {"memory/memory.limit_in_bytes": 256 * MIB}
    assert limit(lay_out(tmp_path, files, own=own)) == 256 * MIB


def test_v1_a_group_inside_of_such_a_container_is_found(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": 256 * MIB,
        "memory/inner/memory.limit_in_bytes": 100 * MIB,
    }
    own = "4:memory:/docker/abc/inner\n"
    assert limit(lay_out(tmp_path, files, own=own)) == 100 * MIB


def test_v1_without_a_limit_names_a_number_beyond_all_machines(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": UNLIMITED_V1,
        "memory/memory.stat": f"total_rss 5\nhierarchical_memory_limit {UNLIMITED_V1}",
    }
    assert memory_group(lay_out(tmp_path, files, own="4:memory:/\n")) is None


def test_v1_a_limit_above_what_the_container_sees_counts(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": UNLIMITED_V1,
        "memory/memory.stat": f"total_rss 5\nhierarchical_memory_limit {70 * MIB}",
    }
    assert limit(lay_out(tmp_path, files, own="4:memory:/\n")) == 70 * MIB


def test_v1_controllers_that_share_a_mount(tmp_path: Path) -> None:
    files = {"memory/a/memory.limit_in_bytes": 90 * MIB}
    assert limit(lay_out(tmp_path, files, own="4:memory,hugetlb:/a\n")) == 90 * MIB


def test_hybrid_the_version_that_has_the_controller_counts(tmp_path: Path) -> None:
    files = {
        "unified/a/cgroup.procs": "",
        "memory/b/memory.limit_in_bytes": 80 * MIB,
        "memory/b/memory.stat": "total_rss 7\ntotal_cache 1000\ntotal_shmem 3",
    }
    group = memory_group(lay_out(tmp_path, files, own="4:memory:/b\n0::/a\n"))
    assert group is not None and group.limit_bytes == 80 * MIB
    assert group.open_use().read() == 10


def test_hybrid_version_2_beside_version_1(tmp_path: Path) -> None:
    files = {"unified/a/memory.max": 60 * MIB, "memory/memory.limit_in_bytes": UNLIMITED_V1}
    assert limit(lay_out(tmp_path, files, own="4:memory:/\n0::/a\n")) == 60 * MIB


@pytest.mark.parametrize(
    "own", ["", "nonsense", "0::/../../else\n", "::\n", "0::/not/there\n", "\0\n"]
)
def test_where_the_own_group_is_not_told_the_mount_is_it(tmp_path: Path, own: str) -> None:
    assert limit(lay_out(tmp_path, {"memory.max": MIB}, own=own)) == MIB


@pytest.mark.parametrize("content", ["", "-1", "many", "²", "1 2"])
def test_a_limit_that_is_no_number_is_none(tmp_path: Path, content: str) -> None:
    assert memory_group(lay_out(tmp_path, {"memory.max": content}, own="0::/\n")) is None


def test_v2_page_cache_is_not_held(tmp_path: Path) -> None:
    stat = "anon 100\nfile 5000\nshmem 20\nkernel_stack 3\npagetables 4\nslab_unreclaimable 5\n"
    files = {"a/memory.max": MIB, "a/memory.stat": stat + "slab_reclaimable 900\nodd line here"}
    group = memory_group(lay_out(tmp_path, files, own="0::/a\n"))
    assert group is not None
    use = group.open_use()
    assert use.read() == 132
    with (tmp_path / "sys/fs/cgroup/a/memory.stat").open("r+") as file:
        file.write("anon 200")
    assert use.read() == 232
    use.close()


def test_statistics_that_say_nothing_are_unknown(tmp_path: Path) -> None:
    files = {"memory.max": MIB, "memory.stat": ""}
    group = memory_group(lay_out(tmp_path, files, own="0::/\n"))
    assert group is not None
    assert group.open_use().read() is None


def test_without_statistics_there_is_nothing_to_open(tmp_path: Path) -> None:
    group = memory_group(lay_out(tmp_path, {"memory.max": MIB}, own="0::/\n"))
    assert group is not None
    with pytest.raises(FileNotFoundError):
        group.open_use()
