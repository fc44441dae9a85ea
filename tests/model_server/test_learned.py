"""What models took is there after a restart, and a broken file is no harm."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.learned import REMEMBERED, Artifact, Footprint, Learned

MIB = 1 << 20


def artifact(url: str = "/m/a", *, weights: int = 1000, on_gpu: bool = False) -> Artifact:
    return Artifact(url, "sklearn", weights, 1, on_gpu)


def took(ram: int = 30 * MIB, gpu: int = 0, seconds: float = 0.5) -> Footprint:
    return Footprint(ram, gpu, seconds)


def written(tmp_path: Path) -> Path:
    """A good file of two models."""
    path = tmp_path / "sizes.json"
    learned = Learned(str(path))
    learned.learn(artifact("/m/a"), took(1))
    learned.learn(artifact("/m/b"), took(2))
    learned.write()
    return path


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet" / "sizes.json"
    learned = Learned.read(str(path))
    learned.learn(artifact(), took())
    learned.learn(artifact("/m/ü €", on_gpu=True), took(gpu=7))
    before = learned.dirty
    learned.write()
    assert (before, learned.dirty) == (True, False)
    again = Learned.read(str(path))
    assert again.predict(artifact()) == took()
    assert again.predict(artifact("/m/ü €", on_gpu=True)) == took(gpu=7)
    assert not again.dirty
    assert [found.name for found in path.parent.iterdir()] == ["sizes.json"]


@given(
    st.lists(
        st.tuples(
            st.builds(
                Artifact,
                st.text(),
                st.sampled_from(["python", "pytorch"]),
                st.integers(0, 1 << 40),
                st.integers(1, 64),
                st.booleans(),
            ),
            st.builds(
                Footprint,
                st.integers(0, 1 << 40),
                st.integers(0, 1 << 40),
                st.floats(0, 1000),
            ),
        ),
        max_size=20,
    )
)
def test_whatever_was_learned_predicts_the_same_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, seen: list[tuple[Artifact, Footprint]]
) -> None:
    path = str(tmp_path_factory.mktemp("learned") / "sizes.json")
    learned = Learned(path)
    for known, footprint in seen:
        learned.learn(known, footprint)
    learned.write()
    again = Learned.read(path)
    for known, _ in seen:
        assert again.predict(known) == learned.predict(known)
        about = (known.framework, known.weight_bytes, known.workers, True, known.on_gpu)
        assert again.typical(*about) == learned.typical(*about)


def test_another_size_device_or_number_of_workers_is_another_artifact() -> None:
    learned = Learned()
    learned.learn(artifact(), took())
    assert learned.predict(artifact(weights=1001)) is None
    assert learned.predict(artifact(on_gpu=True)) is None
    assert learned.predict(artifact()._replace(workers=2)) is None


def test_others_of_the_framework_and_device_teach_and_nobody_else() -> None:
    learned = Learned()
    plain = learned.typical("sklearn", 2000, 1, False, False)
    for url in ("/m/a", "/m/b", "/m/c"):
        learned.learn(artifact(url, on_gpu=True), took(ram=90 * MIB, gpu=900 * MIB))
        learned.learn(artifact(url)._replace(framework="python"), took(ram=90 * MIB))
        learned.learn(artifact(url)._replace(workers=2), took(ram=90 * MIB))
    assert learned.typical("sklearn", 2000, 1, False, False) == plain
    assert learned.typical("sklearn", 2000, 1, False, True).gpu_bytes > 890 * MIB
    for url in ("/m/a", "/m/b", "/m/c"):
        learned.learn(artifact(url), took(ram=30 * MIB, seconds=2.0))
    typical = learned.typical("sklearn", 2000, 1, False, False)
    assert typical.ram_bytes == pytest.approx(30 * MIB, rel=0.01)
    assert typical.load_seconds == pytest.approx(2.0, rel=0.01)
    assert typical.gpu_bytes == 0


def test_loading_one_model_again_and_again_teaches_as_much_as_once() -> None:
    learned = Learned()
    plain = learned.typical("sklearn", 2000, 1, False, False)
    for _ in range(5):
        learned.learn(artifact(), took(ram=1))
    assert learned.typical("sklearn", 2000, 1, False, False).ram_bytes == plain.ram_bytes


def test_a_gpu_that_does_not_tell_who_uses_it_teaches_nothing_of_it() -> None:
    learned = Learned()
    for number in range(5):
        learned.learn(artifact(f"/m/{number}", on_gpu=True), took(gpu=0))
    assert learned.typical("sklearn", 1000, 1, False, True).gpu_bytes > 500 * MIB


def test_bytes_are_the_latest_and_seconds_are_smoothed() -> None:
    learned = Learned()
    learned.learn(artifact(), took(ram=50, seconds=1.0))
    learned.learn(artifact(), took(ram=20, seconds=2.0))
    assert learned.predict(artifact()) == took(ram=20, seconds=1.5)
    learned.learn(artifact(), took(ram=60, seconds=0.0))
    assert learned.predict(artifact()) == took(ram=60, seconds=1.5)


def test_small_changes_are_not_worth_writing(tmp_path: Path) -> None:
    learned = Learned(str(tmp_path / "sizes.json"))
    learned.learn(artifact(), took(ram=1000))
    learned.write()
    learned.learn(artifact(), took(ram=1010))
    assert not learned.dirty
    learned.learn(artifact(), took(ram=2000))
    assert learned.dirty


def test_the_models_learned_longest_ago_are_forgotten(tmp_path: Path) -> None:
    learned = Learned(str(tmp_path / "sizes.json"))
    for number in range(REMEMBERED + 2):
        learned.learn(artifact(f"/m/{number}"), took())
        learned.learn(artifact("/m/0"), took())
    learned.write()
    again = Learned.read(str(tmp_path / "sizes.json"))
    assert again.predict(artifact("/m/0")) == took()
    assert again.predict(artifact("/m/1")) is None
    assert again.predict(artifact("/m/2")) is None
    assert again.predict(artifact("/m/3")) == took()


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learned = Learned.read("")
    learned.learn(artifact(), took())
    assert not learned.dirty
    learned.write()
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_a_first_start_and_needs_no_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Learned.read(str(tmp_path / "sizes.json")).predict(artifact()) is None
    assert not caplog.records


def row(**changed: object) -> bytes:
    """A file of one model, something in it changed."""
    values = {"ram_bytes": 1, "gpu_bytes": 1, "load_seconds": 1.0} | changed
    return json.dumps({"version": 1, "models": [["/m/a", "sklearn", 5, 1, False, values]]}).encode()


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "truncated": lambda good: good[: len(good) // 2],
    "without its last byte": lambda good: good[:-1],
    "garbage": lambda good: bytes(range(256)),
    "not UTF-8": lambda good: good.replace(b"sklearn", b"\xff\xfe"),
    "zeros": lambda good: bytes(len(good)),
    "another version": lambda good: good.replace(b'"version":1', b'"version":2'),
    "no version": lambda good: good.replace(b'"version":1,', b""),
    "a list": lambda good: b"[" + good + b"]",
    "nested too deep": lambda good: b"[" * 100_000,
    "text for a number": lambda good: row(ram_bytes="1"),
    "less than nothing": lambda good: row(ram_bytes=-1),
    "more than any machine has": lambda good: row(gpu_bytes=1 << 70),
    "not a number": lambda good: row(load_seconds=float("nan")),
    "no time at all": lambda good: row(load_seconds=None),
    "null": lambda good: b"null",
}


@pytest.mark.parametrize("damage", BAD)
def test_a_file_of_no_use_is_put_aside_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = written(tmp_path)
    bad = BAD[damage](path.read_bytes())
    path.write_bytes(bad)
    learned = Learned.read(str(path))
    assert learned.predict(artifact()) is None
    assert (tmp_path / "sizes.json.bad").read_bytes() == bad
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "sizes.json.bad" in caplog.text
    learned.learn(artifact(), took())
    learned.write()
    assert Learned.read(str(path)).predict(artifact()) == took()
    assert len(caplog.records) == 1


@given(st.data())
def test_no_damage_to_the_file_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("learned"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    Learned.read(str(path)).typical("sklearn", 1000, 1, False, False)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_loop_of_links(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def larger_than_any_of_ours(path: Path) -> None:
    os.truncate(path, 100 << 20)


@pytest.mark.parametrize(
    "make", [a_directory, a_pipe, an_endless_device, a_loop_of_links, larger_than_any_of_ours]
)
def test_what_is_no_file_of_ours_is_left_alone_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None]
) -> None:
    path = written(tmp_path)
    make(path)
    assert Learned.read(str(path)).predict(artifact()) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert [found.name for found in tmp_path.iterdir()] == ["sizes.json"]


def test_a_directory_in_the_way_stops_the_writing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learned = Learned(str(tmp_path))
    learned.learn(artifact(), took())
    learned.write()
    learned.write()
    assert learned.dirty
    assert len(caplog.records) == 1
    assert not list(tmp_path.parent.glob("*.new"))


def test_a_place_that_cannot_be_made_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    learned = Learned.read("/proc/nowhere/sizes.json")
    learned.learn(artifact(), took())
    learned.write()
    learned.write()
    assert len(caplog.records) == 1
    assert learned.predict(artifact()) == took()


def test_a_name_that_is_not_utf8_is_known_until_the_restart(tmp_path: Path) -> None:
    path = written(tmp_path)
    learned = Learned.read(str(path))
    learned.learn(artifact("/m/\udcff"), took())
    learned.write()
    assert learned.predict(artifact("/m/\udcff")) == took()
    assert Learned.read(str(path)).predict(artifact("/m/a")) == took(1)


def test_it_may_be_written_while_more_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    learned = Learned(str(path))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            learned.write()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(20_000):
            learned.learn(artifact(f"/m/{number}"), took())
    finally:
        stop.set()
        writer.join()
    learned.write()
    assert Learned.read(str(path)).predict(artifact("/m/19999")) == took()
