"""Which directories a load may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_server.errors import BadRequest, ModelNotFound
from model_server.model_dirs import resolve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    return root


def test_a_directory_below_a_root_is_taken(root: Path) -> None:
    assert resolve(f"{root}/model", [str(root)]) == root / "model"
    assert resolve(f"{root}/model/", ["/elsewhere", str(root)]) == root / "model"
    assert resolve(f"{root}//./model/../model", [f"{root}/"]) == root / "model"


def test_the_root_itself_is_taken(root: Path) -> None:
    assert resolve(str(root), [str(root)]) == root


def test_any_directory_lies_below_the_root_of_all(root: Path) -> None:
    assert resolve(f"{root}/model", ["/"]) == root / "model"


def test_links_are_followed_inside_the_roots(root: Path) -> None:
    (root / "link").symlink_to(root / "model")
    assert resolve(f"{root}/link", [str(root)]) == root / "model"


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(root)
    assert resolve(f"{tmp_path}/other/model", [f"{tmp_path}/other"]) == root / "model"


@pytest.mark.parametrize("url", ["", "model", "./model", "~/model", "s3://bucket/x", "file:///x"])
def test_a_url_must_be_an_absolute_path(root: Path, url: str) -> None:
    with pytest.raises(BadRequest, match="absolute path"):
        resolve(url, [str(root)])


def test_a_zero_byte_is_no_part_of_a_path(root: Path) -> None:
    with pytest.raises(BadRequest, match="absolute path"):
        resolve(f"{root}/model\0", [str(root)])


@pytest.mark.parametrize("way", ["/..", "/../other", "/model/../../other", "-beside", "/out"])
def test_what_leads_out_of_the_roots_is_refused(root: Path, way: str) -> None:
    for name in ("other", "root-beside"):
        (root.parent / name).mkdir()
    (root / "out").symlink_to(root.parent / "other")
    with pytest.raises(BadRequest, match="MODELYARD_MODEL_ROOTS"):
        resolve(f"{root}{way}", [str(root)])


def test_outside_of_the_roots_nobody_learns_what_exists(root: Path) -> None:
    for url in ("/etc", "/etc/passwd", "/no/such/thing"):
        with pytest.raises(BadRequest, match="outside"):
            resolve(url, [str(root)])


def test_a_file_is_refused_and_a_missing_directory_not_found(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(BadRequest, match="is a file"):
        resolve(f"{root}/file", [str(root)])
    with pytest.raises(ModelNotFound, match="does not exist"):
        resolve(f"{root}/missing", [str(root)])


@pytest.mark.parametrize("way", ["file/below", "loop", "n" * 300, "/".join("d" * 3000)])
def test_paths_that_cannot_be_read_are_the_clients_fault(root: Path, way: str) -> None:
    (root / "file").touch()
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises((BadRequest, ModelNotFound)):
        resolve(f"{root}/{way}", [str(root)])
