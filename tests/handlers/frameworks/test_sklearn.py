from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from handlers.errors import ModelLoadError
from handlers.frameworks import sklearn
from handlers.types import Interface, ModelPlan, Request, Resources, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

ROWS = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])


@pytest.fixture
def tree() -> Any:
    return make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(ROWS, [0.0, 10.0, 20.0])


def saved(model: Any, folder: Path, compress: int = 0) -> bytes:
    joblib.dump(model, folder / "saved", compress=compress)
    return (folder / "saved").read_bytes()


@pytest.mark.parametrize("compress", [0, 3])
def test_a_joblib_file_is_served_as_it_is(
    load: Load, ask: Ask, tmp_path: Path, tree: Any, compress: int
) -> None:
    service = load({"model.joblib": saved(tree, tmp_path, compress)})
    assert service.invoke(ask("[[1, 1], [2, 2]]")).body == b"[10.0, 20.0]"
    assert service.invoke(ask("1,1\n", "text/csv", "text/csv")).body == b"10.0\n"


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", ["model.pkl", "tree.pickle"])
def test_a_pickle_is_served_as_it_is(
    load: Load, ask: Ask, tree: Any, name: str, protocol: int
) -> None:
    service = load({name: pickle.dumps(tree, protocol)})
    assert service.invoke(ask("[[1, 1]]")).body == b"[10.0]"


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    model = KNeighborsClassifier(1, algorithm="brute").fit(np.eye(50), np.arange(50) // 5)
    joblib.dump(model, tmp_path / "model.joblib")
    plan = ModelPlan(str(tmp_path), "sklearn", Interface.DEFAULT, artifact="model.joblib")
    loaded = sklearn.load(plan, Resources())
    assert isinstance(loaded._fit_X, np.memmap)
    assert loaded.predict(np.eye(50)[4:6]).tolist() == [0, 1]


def test_a_class_of_the_models_own_lies_in_code(load: Load, ask: Ask) -> None:
    text = "class Doubler:\n    def predict(self, data): return data * 2\n"
    module = types.ModuleType("doubler_of_test")
    exec(text, vars(module))
    sys.modules["doubler_of_test"] = module
    try:
        model = pickle.dumps(module.Doubler())
    finally:
        del sys.modules["doubler_of_test"]
    service = load({"model.pkl": model, "code/doubler_of_test.py": text})
    assert service.invoke(ask("[1]")).body == b"[2]"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80garbage"])
def test_a_broken_file_fails_the_load(load: Load, content: bytes) -> None:
    with pytest.raises(ModelLoadError, match=r"\(while loading model.joblib\)"):
        load({"model.joblib": content})
