"""The kernel's counters of processes that it killed for lack of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_server.cgroups import oom_counters
from model_server.oom import OomKills


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.events", "low 0\noom 3\noom_kill {}\n"),
        ("0::/a/b\n", "sys/fs/cgroup/a/b/memory.events", "oom_kill {}\n"),
        ("4:memory:/pod/c1\n0::/\n", "sys/fs/cgroup/memory/memory.oom_control", "oom_kill {}\n"),
        ("4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.oom_control", "under_oom 0\noom_kill {}"),
        ("0::/\n", "proc/vmstat", "nr_free_pages 7\noom_kill {}\nzone_reclaim_failed 0\n"),
    ],
)
def test_a_kill_is_found_wherever_it_is_counted(
    tmp_path: Path, cgroup: str, file: str, text: str
) -> None:
    put(tmp_path, "proc/self/cgroup", cgroup)
    put(tmp_path, file, text.format(2))
    kills = OomKills(oom_counters(tmp_path))
    assert kills.count() == 2
    assert not kills.is_likely()
    put(tmp_path, file, text.format(3))
    assert kills.is_likely()


def test_the_groups_own_counter_comes_before_the_machines(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "proc/vmstat", "oom_kill 50\n")
    put(tmp_path, "sys/fs/cgroup/memory.events", "oom_kill 1\n")
    assert OomKills(oom_counters(tmp_path)).count() == 1


def test_several_that_die_at_once_have_the_same_cause(tmp_path: Path) -> None:
    counter = put(tmp_path, "counter", "oom_kill 0\n")
    kills = OomKills([counter])
    counter.write_text("oom_kill 1\n")
    assert kills.is_likely() and kills.is_likely()


@pytest.mark.parametrize("text", ["", "oom_kill_disable 0\nunder_oom 0\n", "max 5\n"])
def test_counters_that_say_nothing_are_passed_over(tmp_path: Path, text: str) -> None:
    kills = OomKills([put(tmp_path, "counter", text), tmp_path / "missing"])
    assert kills.count() == 0 and not kills.is_likely()


def test_this_machine_counts_them() -> None:
    assert OomKills().count() >= 0
