"""What a process keeps open, and what of it its forks could not share."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_server.processes.descriptors import descriptors_of_this_process, opened_since


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "we ights\n.bin"
    path.write_bytes(b"w" * 100_000)
    return path


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_what_was_open_before_does_not_count(weights: Path) -> None:
    with weights.open("rb"), socket.socket():
        assert opened_since(descriptors_of_this_process()) == []


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_a_file_that_is_open_counts(weights: Path, mode: str, opened: ExitStack) -> None:
    before = descriptors_of_this_process()
    file = opened.enter_context(weights.open(mode))
    (found,) = opened_since(before)
    assert (found.number, found.target, found.is_file) == (file.fileno(), str(weights), True)


@pytest.mark.parametrize("kind", [socket.socket, lambda: os.fdopen(os.eventfd(0), "rb")])
def test_what_is_no_file_counts(kind: Callable[[], socket.socket], opened: ExitStack) -> None:
    before = descriptors_of_this_process()
    opened.enter_context(kind())
    (found,) = opened_since(before)
    assert not found.is_file


def test_what_has_no_place_to_read_on_does_not_count() -> None:
    before = descriptors_of_this_process()
    with Path("/dev/null").open("rb"), Path("/dev/urandom").open("rb"):
        assert len(descriptors_of_this_process() - before) == 2
        assert opened_since(before) == []


def test_a_mapping_that_keeps_its_descriptor_does_not_count(
    weights: Path, opened: ExitStack
) -> None:
    before = descriptors_of_this_process()
    with weights.open("rb") as file:
        opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    assert len(descriptors_of_this_process() - before) == 1
    assert opened_since(before) == []


def test_a_mapped_file_that_is_read_too_counts(weights: Path, opened: ExitStack) -> None:
    before = descriptors_of_this_process()
    file = opened.enter_context(weights.open("rb"))
    opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    assert opened_since(before) != []


def test_a_mapped_file_that_may_be_written_counts(weights: Path, opened: ExitStack) -> None:
    before = descriptors_of_this_process()
    with weights.open("r+b") as file:
        opened.enter_context(mmap.mmap(file.fileno(), 0))
    assert len(opened_since(before)) == 1
