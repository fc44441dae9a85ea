from __future__ import annotations

from pathlib import Path

import pytest

from handlers.directory import artifacts
from handlers.directory.artifacts import bytes_below, candidates, holds_weights, pick

EXTENSIONS = (".safetensors", ".pt")


@pytest.mark.parametrize(
    ("names", "picked"),
    [
        ([], None),
        (["readme", "notes.txt"], None),
        (["net.PT"], "net.PT"),
        (["a.pt", "model.pt"], "model.pt"),
        (["model.pt", "Model.safetensors"], "Model.safetensors"),
        (["a.pt", "b.pt"], None),
        (["a.pt", "._a.pt", ".pt"], "a.pt"),
        (["model.v2.pt", "model.pt"], "model.pt"),
    ],
)
def test_the_model_is_called_model_or_is_the_only_one(names: list[str], picked: str | None) -> None:
    assert pick(names, EXTENSIONS) == picked


def test_candidates_come_in_order_of_extension_then_name() -> None:
    names = ["b.pt", "a.pt", "z.safetensors", "c.txt"]
    assert candidates(names, EXTENSIONS) == ["z.safetensors", "a.pt", "b.pt"]


@pytest.mark.parametrize(("name", "holds"), [("a.ONNX", True), ("a.txt", False), ("onnx", False)])
def test_weights_are_told_by_the_extension(name: str, holds: bool) -> None:
    assert holds_weights(name) is holds


def test_a_directory_counts_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_text("1")
    (tmp_path / "a" / "b" / "two").write_text("22")
    (tmp_path / "other").write_text("333")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    link = (tmp_path / "a" / "up").lstat().st_size
    assert bytes_below(tmp_path / "a") in (3, 3 + link)
    assert bytes_below(tmp_path / "missing") == 0


def test_a_directory_of_very_many_files_is_not_counted_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILES_BELOW", 3)
    for number in range(5):
        (tmp_path / str(number)).write_text("1")
    assert bytes_below(tmp_path) == 3
