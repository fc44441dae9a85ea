from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.directory.model_requirements import requirements_of
from handlers.errors import ModelLoadError
from handlers.frameworks import FRAMEWORKS
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Requirements

Make = Callable[..., Path]
Files = dict[str, str]

SCRIPT: Files = {"code/inference.py": "def model_fn(model_dir): pass"}


def wanted(make: Make, options: HandlerOptions, files: Files) -> Requirements | None:
    return inspect_model(make(files), options).requirements


def test_a_model_without_a_file_needs_no_environment(make: Make, options: HandlerOptions) -> None:
    assert wanted(make, options, SCRIPT) is None


@pytest.mark.parametrize("text", ["", "\n# nothing\n\n"])
def test_a_file_that_asks_for_nothing_does_not_count(
    make: Make, options: HandlerOptions, text: str
) -> None:
    assert wanted(make, options, {**SCRIPT, "code/requirements.txt": text}) is None


def test_the_file_lies_in_code_or_the_root_or_is_named(make: Make, options: HandlerOptions) -> None:
    model_dir = make({**SCRIPT, "requirements.txt": "a==1"})
    found = inspect_model(model_dir, options).requirements
    assert found == Requirements(file=str(model_dir / "requirements.txt"))
    make({"code/requirements.txt": "b"})
    found = inspect_model(model_dir, options).requirements
    assert found == Requirements(file=str(model_dir / "code/requirements.txt"))
    manifest = json.dumps({"model": {"requirementsFile": "mine.txt"}})
    make({"MAR-INF/MANIFEST.json": manifest, "mine.txt": "c"})
    found = inspect_model(model_dir, options).requirements
    assert found == Requirements(file=str(model_dir / "mine.txt"))


def test_a_model_with_the_shared_script_has_its_requirements(
    make: Make, options: HandlerOptions
) -> None:
    shared = make({"inference.py": "", "requirements.txt": "a"}, name="shared")
    model_dir = make({"model.joblib": ""})
    found = inspect_model(model_dir, options).requirements
    assert found == Requirements(file=str(shared / "requirements.txt"))
    make({"requirements.txt": "b"})
    found = inspect_model(model_dir, options).requirements
    assert found == Requirements(file=str(model_dir / "requirements.txt"))
    assert wanted(make, options, SCRIPT) == found
    (model_dir / "requirements.txt").unlink()
    assert wanted(make, options, SCRIPT) is None


def test_wheels_lie_beside_the_file(make: Make, options: HandlerOptions) -> None:
    files = {**SCRIPT, "code/requirements.txt": "a", "code/wheels/a-1-py3-none-any.whl": ""}
    model_dir = make({**files, "wheels/b-1-py3-none-any.whl": ""})
    found = inspect_model(model_dir, options).requirements
    assert found is not None
    assert found.wheels == str(model_dir / "code/wheels")


def test_a_file_that_the_manifest_names_must_be_there(make: Make, options: HandlerOptions) -> None:
    manifest = json.dumps({"model": {"requirementsFile": "gone.txt"}})
    with pytest.raises(ModelLoadError, match=r"'gone\.txt', which is not in the archive"):
        inspect_model(make({**SCRIPT, "MAR-INF/MANIFEST.json": manifest}), options)


def test_files_can_be_ignored(make: Make, options: HandlerOptions) -> None:
    options = dataclasses.replace(options, model_requirements=False)
    assert wanted(make, options, {**SCRIPT, "code/requirements.txt": "a"}) is None


def test_a_framework_that_lives_apart_brings_its_pins(
    make: Make, options: HandlerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sklearn = FRAMEWORKS["sklearn"]
    monkeypatch.setattr(sklearn, "installed", lambda: False)
    monkeypatch.setattr(sklearn, "PINS", ("scikit-learn==1.0", "numpy<2"))
    plan = inspect_model(make({"model.joblib": ""}), options)
    assert plan.requirements == Requirements(pins=("scikit-learn==1.0", "numpy<2"))
    assert plan.framework == "sklearn"


def test_of_several_frameworks_the_one_that_lives_apart_decides(
    make: Make, options: HandlerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FRAMEWORKS["sklearn"], "installed", lambda: False)
    files = {"code/inference.py": "import torch, sklearn\ndef model_fn(d): pass"}
    assert inspect_model(make(files), options).framework == "pytorch"
    monkeypatch.setattr(FRAMEWORKS["sklearn"], "PINS", ("scikit-learn==1.0",))
    assert inspect_model(make(files), options).framework == "sklearn"


@pytest.mark.parametrize(
    "line", ["scikit-learn", "scikit_learn==1.2 ; python_version > '3'", "Scikit.Learn[x]>=1  # y"]
)
def test_a_framework_that_the_file_asks_for_will_be_there(
    make: Make, options: HandlerOptions, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(FRAMEWORKS["sklearn"], "installed", lambda: False)
    files: Files = {"model.joblib": ""}
    with pytest.raises(ModelLoadError, match="needs sklearn, which is not installed"):
        inspect_model(make(files), options)
    plan = inspect_model(make({**files, "requirements.txt": f"numpy\n{line}\n"}), options)
    assert plan.framework == "sklearn"
    script = {"code/inference.py": "import sklearn\ndef model_fn(d): pass"}
    assert inspect_model(make(script), options).framework == "sklearn"


def test_code_for_a_framework_that_nobody_has_runs_without_one(
    make: Make, options: HandlerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FRAMEWORKS["sklearn"], "installed", lambda: False)
    files = {**SCRIPT, "model.joblib": "", "code/requirements.txt": "requests"}
    assert inspect_model(make(files), options).framework == "python"


@pytest.mark.parametrize(
    ("name", "asked", "pins"),
    [
        ("tensorflow", "scipy\n", ("tensorflow-cpu==2.21.0",)),
        ("tensorflow", "tensorflow==2.15.0  # what it was trained with\n", ()),
        ("tensorflow", "tensorflow-gpu>=2\nscipy\n", ()),
        ("tensorflow", "tensorflow_hub\n", ("tensorflow-cpu==2.21.0",)),
        ("mxnet", "mxnet-cu112\n", ("numpy==1.23.5", "ml_dtypes==0.5.4")),
        ("mxnet", "MXNet==1.9.1\nNumPy==1.22.4\n", ("ml_dtypes==0.5.4",)),
    ],
)
def test_a_model_may_name_its_own_version_of_a_framework_that_lives_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asked: str, pins: tuple[str, ...]
) -> None:
    monkeypatch.setattr(FRAMEWORKS[name], "installed", lambda: False)
    file = tmp_path / "requirements.txt"
    file.write_text(asked)
    found = requirements_of(FRAMEWORKS[name], file)
    assert found is not None
    assert found.pins == pins
