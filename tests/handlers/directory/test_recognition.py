from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.directory.artifacts import Contents
from handlers.directory.recognition import pick_recognised, pickled_packages
from handlers.errors import ModelLoadError
from handlers.frameworks import claims, for_artifact
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Request, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

JSON_MODEL = '{"learner": {"attributes": {}}}'


class Elsewhere:
    """Pickled as if it were of a package that need not be installed."""


def pickled(module: str, protocol: int) -> bytes:
    """A pickle of ``module.Elsewhere``."""
    content = pickle.dumps(Elsewhere(), protocol)
    here = __name__.encode()
    if protocol < 4:
        return content.replace(here, module.encode())
    length = bytes([len(here)]), bytes([len(module)])
    return content.replace(b"\x8c" + length[0] + here, b"\x8c" + length[1] + module.encode())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress])
def test_the_packages_of_a_pickle_are_found_without_loading_it(
    protocol: int, pack: Callable[[bytes], bytes]
) -> None:
    assert "xgboost" in pickled_packages(pack(pickled("xgboost.sklearn", protocol)))


@pytest.mark.parametrize("value", ["xgboost", {"a": [1.5]}, b"c\n", ["lightgbm is a library"]])
def test_text_in_a_pickle_is_no_package(value: Any) -> None:
    assert not {"xgboost", "lightgbm"} & pickled_packages(pickle.dumps(value))


@pytest.mark.parametrize("start", [b"", b"\x80", b"\x78garbage", b"\x1f\x8bgarbage", b"garbage"])
def test_what_is_no_pickle_names_no_package(start: bytes) -> None:
    assert pickled_packages(start) == frozenset()


def contents(folder: Path, files: dict[str, str | bytes]) -> Contents:
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Contents(folder, tuple(sorted(files)))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["b.x", "model.x"], "model.x"),
        (["b.x", "no.x"], "b.x"),
        (["a.x", "b.x"], None),
        (["no.x"], None),
        (["no.y"], None),
        ([f"{number}.x" for number in range(100)], None),
        ([*(f"{number}.x" for number in range(100)), "model.x"], "model.x"),
    ],
)
def test_only_files_that_look_right_count(names: list[str], found: str | None) -> None:
    directory = Contents(Path("/m"), tuple(names))
    assert pick_recognised(directory, (".x",), lambda name: name != "no.x") == found


def test_few_files_of_many_are_looked_into() -> None:
    asked: list[str] = []

    def accepts(name: str) -> bool:
        asked.append(name)
        return True

    directory = Contents(Path("/m"), tuple(f"{number}.x" for number in range(100_000)))
    assert pick_recognised(directory, (".x",), accepts) is None
    assert not asked


@pytest.mark.parametrize(
    ("files", "framework", "artifact"),
    [
        ({"a.pkl": pickled("xgboost.sklearn", 4)}, "xgboost", "a.pkl"),
        ({"a.pkl": pickled("lightgbm.sklearn", 2)}, "lightgbm", "a.pkl"),
        ({"a.pkl": pickled("catboost.core", 5)}, "catboost", "a.pkl"),
        ({"a.pkl": pickled("sklearn.svm", 5)}, "sklearn", "a.pkl"),
        ({"a.json": JSON_MODEL, "config.json": "{}"}, "xgboost", "a.json"),
        ({"a.json": '{"features_info": {}}'}, "catboost", "a.json"),
        ({"a.txt": "tree\nversion=v4\n", "labels.txt": "tree\nhouse\n"}, "lightgbm", "a.txt"),
        ({"a.ort": b""}, "onnx", "a.ort"),
        ({"xgboost-model": b"", "scaler.pkl": b""}, "xgboost", "xgboost-model"),
        ({"model.json": JSON_MODEL, "scaler.pkl": b""}, "xgboost", "model.json"),
        ({"model.pkl": b"", "net.onnx": b""}, "sklearn", "model.pkl"),
        (
            {"model.pkl": pickled("xgboost.core", 4), "scaler.pkl": pickled("sklearn.svm", 4)},
            *("xgboost", "model.pkl"),
        ),
    ],
)
def test_a_directory_is_served_by_the_framework_that_wrote_its_file(
    tmp_path: Path, files: dict[str, str | bytes], framework: str, artifact: str
) -> None:
    found = for_artifact(contents(tmp_path, files))
    assert found is not None
    assert (found[0].NAME, found[1]) == (framework, artifact)


def test_files_of_two_frameworks_are_nobodys_and_both_are_told(tmp_path: Path) -> None:
    directory = contents(tmp_path, {"a.json": JSON_MODEL, "b.onnx": b"", "c.txt": "notes"})
    assert for_artifact(directory) is None
    assert claims(directory) == [("xgboost", "a.json"), ("onnx", "b.onnx")]


def test_two_files_of_one_framework_are_told_too(load: Load) -> None:
    with pytest.raises(ModelLoadError, match=r"a\.json, b\.json could each be the model. Name"):
        load({"a.json": JSON_MODEL, "b.json": JSON_MODEL, "c.json": "{}"})


def test_without_code_files_of_two_frameworks_are_an_error_that_names_both(load: Load) -> None:
    files: dict[str, str | bytes] = {"a.json": JSON_MODEL, "b.onnx": b""}
    with pytest.raises(ModelLoadError, match=r"a\.json \(xgboost\), b\.onnx \(onnx\) could each"):
        load(files)


def test_with_code_files_of_two_frameworks_are_the_codes_business(load: Load, ask: Ask) -> None:
    script = "def model_fn(model_dir): return lambda data: data\n"
    service = load({"a.json": JSON_MODEL, "b.onnx": b"", "code/inference.py": script})
    assert service.invoke(ask("[1]")).body == b"[1]"


def test_a_model_whose_ending_says_little_still_counts_with_its_size(
    make: Callable[..., Path], options: HandlerOptions
) -> None:
    model_dir = make({"model.json": JSON_MODEL + " " * 10_000, "notes.json": "{}"})
    assert inspect_model(model_dir, options).weight_bytes == len(JSON_MODEL) + 10_000
