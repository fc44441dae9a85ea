"""``modelyard pack``: the same bytes each time, and nothing that a server would refuse."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tarfile
from pathlib import Path

import joblib
import pytest
import torch

from archives.extraction import ArchiveLimits, extract_archive
from modelyard.pack import Packed, PackError, main, pack_archive
from modelyard.pitfalls import pitfalls

from .conftest import MODELS, Modelyard

LIMITS = ArchiveLimits(max_bytes=10 << 20, max_files=100)
INFERENCE = "def model_fn(model_dir): ...\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "my-model"
    (directory / "code").mkdir(parents=True)
    (directory / "code" / "inference.py").write_text(INFERENCE)
    (directory / "weights.bin").write_bytes(bytes(1000))
    return directory


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive) as file:
        return file.getnames()


def test_what_is_packed_is_told_and_can_be_extracted(
    modelyard: Modelyard, model: Path, tmp_path: Path
) -> None:
    done = modelyard("pack", model)
    archive = tmp_path / "here" / "my-model.tar.gz"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"my-model.tar.gz: {archive.stat().st_size} bytes; 2 files, 1029 bytes\n"
        "code/inference.py will be served with python (sagemaker)\n"
    )
    assert names_in(archive) == ["code", "code/inference.py", "weights.bin"]
    extract_archive(archive, tmp_path / "out" / "model", LIMITS)
    assert (tmp_path / "out" / "model" / "code" / "inference.py").read_text() == INFERENCE


def test_the_same_directory_makes_the_same_bytes(model: Path, tmp_path: Path) -> None:
    pack_archive(model, tmp_path / "one.tar.gz", LIMITS)
    again = tmp_path / "again"
    shutil.copytree(model, again)
    for path in (again, *again.rglob("*")):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o600)
    pack_archive(again, tmp_path / "other-name.tar.gz", LIMITS)
    first, second = (tmp_path / "one.tar.gz", tmp_path / "other-name.tar.gz")
    assert first.read_bytes() == second.read_bytes()


def test_what_tools_leave_behind_is_left_out(model: Path, tmp_path: Path) -> None:
    for name in ("__pycache__", ".git", "code/.ipynb_checkpoints", "__MACOSX"):
        (model / name).mkdir()
        (model / name / "file").write_text("")
    for name in (".DS_Store", "._weights.bin"):
        (model / name).write_text("")
    pack_archive(model, tmp_path / "a.tar.gz", LIMITS)
    assert names_in(tmp_path / "a.tar.gz") == ["code", "code/inference.py", "weights.bin"]


def test_an_archive_within_the_directory_does_not_hold_itself(model: Path) -> None:
    archive = model / "a.tar.gz"
    pack_archive(model, archive, LIMITS)
    pack_archive(model, archive, LIMITS)
    assert "a.tar.gz" not in names_in(archive)


def test_links_inside_stay_and_links_to_files_outside_become_files(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"outside")
    (model / "inside.bin").symlink_to("weights.bin")
    (model / "outside.bin").symlink_to("../elsewhere")
    (model / "absolute.bin").symlink_to(model / "weights.bin")
    pack_archive(model, tmp_path / "a.tar.gz", LIMITS)
    extract_archive(tmp_path / "a.tar.gz", tmp_path / "out" / "model", LIMITS)
    out = tmp_path / "out" / "model"
    assert (out / "inside.bin").is_symlink()
    assert (out / "outside.bin").read_bytes() == b"outside"
    assert not (out / "outside.bin").is_symlink() and not (out / "absolute.bin").is_symlink()


def test_the_right_to_execute_is_kept(model: Path, tmp_path: Path) -> None:
    (model / "weights.bin").chmod(0o755)
    pack_archive(model, tmp_path / "a.tar.gz", LIMITS)
    extract_archive(tmp_path / "a.tar.gz", tmp_path / "out" / "model", LIMITS)
    assert os.access(tmp_path / "out" / "model" / "weights.bin", os.X_OK)


def test_what_a_server_would_refuse_is_refused(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.tar.gz"
    with pytest.raises(PackError, match="more than 2 files"):
        pack_archive(model, target, ArchiveLimits(max_bytes=10_000, max_files=2))
    with pytest.raises(PackError, match="more than 500 bytes"):
        pack_archive(model, target, ArchiveLimits(max_bytes=500, max_files=10))
    (model / "link").symlink_to("/usr")
    with pytest.raises(PackError, match="link is a link to /usr"):
        pack_archive(model, target, LIMITS)
    (model / "link").unlink()
    (model / "dangling").symlink_to("/nowhere")
    with pytest.raises(PackError, match="dangling"):
        pack_archive(model, target, LIMITS)
    (model / "dangling").unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(PackError, match="pipe is a device"):
        pack_archive(model, target, LIMITS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-model"]


def test_a_failure_leaves_the_old_archive(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"old")
    os.mkfifo(model / "pipe")
    with pytest.raises(PackError):
        pack_archive(model, tmp_path / "a.tar.gz", LIMITS)
    assert (tmp_path / "a.tar.gz").read_bytes() == b"old"


def test_a_directory_that_cannot_be_served_is_not_packed(
    modelyard: Modelyard, tmp_path: Path
) -> None:
    (tmp_path / "outer" / "inner" / "code").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "code" / "inference.py").write_text(INFERENCE)
    done = modelyard("pack", tmp_path / "outer")
    assert done.returncode == 1
    assert "Everything lies under inner/" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("arguments", [["missing"], [MODELS / "echo", "-o", "/no/such/a.tar.gz"]])
def test_what_cannot_be_done_ends_with_2(modelyard: Modelyard, arguments: list[object]) -> None:
    done = modelyard("pack", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("modelyard pack: ")


def test_what_is_packed_passes_the_check(modelyard: Modelyard, tmp_path: Path) -> None:
    assert modelyard("pack", MODELS / "echo", "-o", tmp_path / "e.tar.gz").returncode == 0
    assert modelyard("check", tmp_path / "e.tar.gz").returncode == 0


@pytest.mark.parametrize("protocol", range(6))
def test_a_class_of_the_training_script_is_warned_of(
    model: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Trained", type("Trained", (), {"__module__": "__main__"}), False)
    trained = main.Trained()
    (model / "a.pkl").write_bytes(pickle.dumps(trained, protocol))
    joblib.dump(trained, model / "b.joblib", protocol=protocol)
    warned = list(pitfalls(model))
    assert [warning.partition(" ")[0] for warning in warned] == ["a.pkl", "b.joblib"]
    assert "__main__" in warned[0]


def test_torch_files_with_such_a_class_are_warned_of_and_others_are_not(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = sys.modules["__main__"]
    net = type("Net", (torch.nn.Linear,), {"__module__": "__main__"})
    monkeypatch.setattr(main, "Net", net, False)
    torch.save(net(2, 1), model / "whole.pt")
    torch.save(net(2, 1).state_dict(), model / "state.pt")
    (model / "empty.pkl").write_bytes(b"")
    assert [warning.partition(" ")[0] for warning in pitfalls(model)] == ["whole.pt"]


def test_counts_are_of_what_is_in_the_archive(model: Path, tmp_path: Path) -> None:
    assert pack_archive(model, tmp_path / "a.tar.gz", LIMITS) == Packed(files=2, bytes=1029)


def test_links_that_lead_back_to_themselves_are_told(tmp_path: Path) -> None:
    model = tmp_path / "m"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text("def model_fn(d): return 1")
    (model / "a").symlink_to("b")
    (model / "b").symlink_to("a")
    with pytest.raises(PackError, match="a is a link that leads back to itself"):
        pack_archive(model, tmp_path / "m.tar.gz", ArchiveLimits(1 << 20, 100))


@pytest.mark.parametrize(
    ("name", "words"), [("out.zip", "should end in .tar.gz"), ("m/in.tar.gz", "directory itself")]
)
def test_an_archive_goes_where_it_can_stay(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    assert main([str(tmp_path / "m"), "-o", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err
