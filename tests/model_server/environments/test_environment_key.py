"""Keys of environments: the same for the same content, another for any other, and cheap."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.types import Requirements
from model_server.environments.environment_key import EnvironmentKeys, logical_lines

from ..environment_parts import asking
from ..packages import make_source, make_wheel


def key_of(requirements: Requirements, **variables: str) -> str:
    return EnvironmentKeys(variables).key(requirements)


def more(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def model(directory: Path) -> Requirements:
    """Requirements that name something of each kind."""
    make_wheel(directory / "wheels", "tiny")
    make_source(directory / "own", "local")
    (directory / "links").mkdir()
    asked = asking(
        directory,
        "tiny\n./own\nother @ file:own  # twice\n-r nested.txt\n-f links\n${PLACE}/x.whl\n",
        directory / "wheels",
    )
    (directory / "nested.txt").write_text("numpy\n-c pins.txt\n")
    (directory / "pins.txt").write_text("numpy<9\n")
    return asked


def test_the_same_content_elsewhere_has_the_same_key(tmp_path: Path) -> None:
    key = key_of(model(tmp_path / "a"))
    assert key == key_of(model(tmp_path / "b"))
    assert len(key) == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda place: more(place / "requirements.txt", "more\n"),
        lambda place: (place / "nested.txt").write_text("numpy>1\n-c pins.txt\n"),
        lambda place: (place / "pins.txt").write_text("numpy<8\n"),
        lambda place: more(place / "own" / "backend.py", "\n"),
        lambda place: (place / "own" / "new.py").touch(),
        lambda place: make_wheel(place / "wheels", "tiny", requires=["more"]),
        lambda place: make_wheel(place / "wheels", "tiny", "2.0"),
        lambda place: make_wheel(place / "links", "linked"),
    ],
)
def test_a_change_of_what_it_names_changes_the_key(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    asked = model(tmp_path)
    keys = EnvironmentKeys({})
    before = keys.key(asked)
    assert keys.key(asked) == before
    change(tmp_path)
    assert keys.key(asked) != before


def test_a_variable_in_a_path_is_followed(tmp_path: Path) -> None:
    asked = asking(tmp_path / "a", "${PLACE}/x.whl\n")
    other = tmp_path / "b"
    other.mkdir()
    absent = key_of(asked, PLACE=str(other))
    (other / "x.whl").write_text("content")
    assert key_of(asked, PLACE=str(other)) != absent


def test_comments_and_what_builds_leave_do_not_matter(tmp_path: Path) -> None:
    asked = model(tmp_path)
    before = key_of(asked)
    file = tmp_path / "requirements.txt"
    file.write_text("# a comment\n\n" + file.read_text().replace("tiny\n", "tiny   # why\r\n"))
    (tmp_path / "own" / "build").mkdir()
    (tmp_path / "own" / "build" / "x.py").touch()
    (tmp_path / "own" / "local.egg-info").mkdir()
    (tmp_path / "own" / "local.egg-info" / "PKG-INFO").touch()
    assert key_of(asked) == before


def test_an_editable_package_is_part_of_its_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_source(tmp_path / name / "own", "local")
    keys = {key_of(asking(tmp_path / name, "-e ./own\n")) for name in ("a", "b")}
    assert len(keys) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_other_editors_are_read(tmp_path: Path, encoding: str) -> None:
    asked = asking(tmp_path, "")
    (tmp_path / "requirements.txt").write_text("# naïve\n", encoding=encoding)
    assert key_of(asked) == ""
    (tmp_path / "requirements.txt").write_text("tiny # naïve\n", encoding=encoding)
    assert key_of(asked) == key_of(asking(tmp_path / "plain", "tiny\n"))


@pytest.mark.parametrize(
    "text", ["-r requirements.txt\ntiny\n", "-r\n", "-r /dev/zero\n", "-e '\n", "-r .\n", "\0\n"]
)
def test_odd_files_have_a_key_too(tmp_path: Path, text: str) -> None:
    assert key_of(asking(tmp_path, text))


def test_a_file_that_is_no_text_or_no_file_has_a_key_too(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(bytes(range(256)))
    assert key_of(Requirements(file=str(tmp_path / "requirements.txt")))
    assert key_of(Requirements(file=str(tmp_path)))
    os.mkfifo(tmp_path / "pipe")
    assert key_of(Requirements(file=str(tmp_path / "pipe"), wheels=str(tmp_path)))


def test_lines_are_joined_and_comments_dropped() -> None:
    text = "a \\\n ==1\n# no \\\nb\nhttps://host/x#egg=c\n\n d # e\nf \\\n# g\nlast \\"
    expected = ["a  ==1", "b", "https://host/x#egg=c", "d", "f", "last"]
    assert list(logical_lines(text)) == expected


def test_contents_are_read_once(tmp_path: Path) -> None:
    make_wheel(tmp_path, "tiny")
    with (tmp_path / "large-1.0-py3-none-any.whl").open("wb") as file:
        file.truncate(100 << 20)
    asked = asking(tmp_path, "tiny\n", tmp_path)
    keys = EnvironmentKeys({})
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        keys.key(asked)
        seconds.append(time.perf_counter() - started)
    assert min(seconds[1:]) < seconds[0] / 5
