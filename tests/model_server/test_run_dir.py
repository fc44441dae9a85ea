"""Run directories: one server each, and none left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_server.run_dir import _MAX_DIRECTORY_BYTES, RunDir

SAYS = "; d = RunDir.create({!r}); print(d.path, flush=True); sys.stdin.read()"


@contextmanager
def held_by_another(wanted: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process that has created a run directory and lives on; its path."""
    code = "import sys; from model_server.run_dir import RunDir" + SAYS.format(wanted)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        try:
            yield other.stdout.readline().strip(), other
        finally:
            other.kill()


def test_what_a_killed_server_left_is_removed_by_the_next_one() -> None:
    with held_by_another("") as (left, other):
        assert Path(left).is_dir()
        other.kill()
        other.wait()
    assert Path(left).is_dir()
    mine = RunDir.create("")
    try:
        assert mine.path != left
        assert not Path(left).exists()
    finally:
        mine.remove()
    assert not Path(mine.path).exists()


def test_what_a_living_server_uses_is_left_alone() -> None:
    with held_by_another("") as (used, _):
        mine = RunDir.create("")
        mine.remove()
        assert Path(used).is_dir()
    Path(used, "lock").unlink()
    Path(used, "m").rmdir()
    Path(used).rmdir()


def test_a_directory_that_another_server_uses_is_refused(short_path: Path) -> None:
    with held_by_another(str(short_path)), pytest.raises(ValueError, match="in use by another"):
        RunDir.create(str(short_path))


def test_a_directory_of_a_killed_server_is_taken_over_without_its_sockets(short_path: Path) -> None:
    wanted = short_path / "deep" / "run"
    with held_by_another(str(wanted)) as (_, other):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(RunDir(str(wanted)).model_socket("stale"))
        other.kill()
        other.wait()
    mine = RunDir.create(str(wanted))
    assert mine.path == str(wanted)
    assert not Path(mine.model_socket("stale")).exists()


def test_the_longest_path_that_is_let_in_can_be_bound(short_path: Path) -> None:
    base = f"{short_path}/"
    longest = base + "d" * (_MAX_DIRECTORY_BYTES - len(os.fsencode(base)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(RunDir.create(longest).model_socket("any"))
    with pytest.raises(ValueError, match="longer than"):
        RunDir.create(longest + "d")


def test_the_longest_path_that_is_let_in_can_be_bound_hidden(short_path: Path) -> None:
    base = f"{short_path}/"
    longest = base + "d" * (_MAX_DIRECTORY_BYTES - len(os.fsencode(base)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(RunDir.create(longest).model_socket("any") + ".new")


@pytest.mark.parametrize(
    "name", ["a", "../../etc/passwd", "/", "\0", "n" * 10_000, "🦙", "\ud800", "a/b", "a%2Fb"]
)
def test_any_name_is_a_file_directly_in_the_sockets_directory(name: str) -> None:
    path = Path(RunDir("/run/x").model_socket(name))
    assert path.parent == Path("/run/x/m")
    assert len(path.name) == 32 + len(".sock")


def test_different_names_are_different_files() -> None:
    names = ["a", "A", "a ", "a/b", "a%2Fb", "é", "e\u0301", ""]
    assert len({RunDir("/x").model_socket(name) for name in names}) == len(names)
