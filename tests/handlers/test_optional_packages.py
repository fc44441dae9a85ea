"""Packages that are installed and cannot be imported."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.tree import DecisionTreeRegressor

ABI = "numpy.dtype size changed, may indicate binary incompatibility"


def outside(directory: Path, code: str, *broken: str) -> str:
    """What a process prints in which importing these packages raises a ValueError."""
    for name in broken:
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text(f"raise ValueError({ABI!r})\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "lightgbm", "huggingface"])
def test_a_framework_is_preloaded_beside_a_pandas_that_does_not_fit(
    framework: str, tmp_path: Path
) -> None:
    code = f"from handlers.frameworks import FRAMEWORKS as F; F[{framework!r}].preload(); print(1)"
    assert outside(tmp_path, code, "pandas", "matplotlib") == "1\n"


def test_pytorch_is_preloaded_beside_safetensors_that_do_not_fit(tmp_path: Path) -> None:
    code = "from handlers.frameworks import pytorch; pytorch.preload(); print(1)"
    assert outside(tmp_path, code, "safetensors") == "1\n"


def test_rows_go_to_a_model_with_names_without_a_pandas_that_does_not_fit(tmp_path: Path) -> None:
    model = DecisionTreeRegressor().fit(pd.DataFrame([[1.0], [2.0]], columns=["a"]), [1.0, 2.0])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    code = f"""
import numpy, pathlib
from handlers.frameworks import sklearn
sklearn.preload()
from handlers.frameworks.parts.pickles import load_pickle
model = load_pickle(pathlib.Path({str(tmp_path)!r}, "model.pkl"))
print(sklearn.predict_fn(numpy.ones((1, 1)), model))
"""
    assert outside(tmp_path, code, "pandas") == "[1.]\n"


def test_a_models_own_import_is_told_why_it_failed(tmp_path: Path) -> None:
    code = """
from handlers.frameworks import python
python.preload()
try:
    import pandas
except ImportError as error:
    print(error)
"""
    assert ABI in outside(tmp_path, code, "pandas")
