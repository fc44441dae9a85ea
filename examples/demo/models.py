"""The models of the demo: a clinic each, which has learned from patients of its own.

All take the same request, a line of CSV for each patient, and each has another answer, so that a
request that came to the wrong model would show. Four are of scikit-learn, four of XGBoost and four
of ONNX. Each carries some ballast, so that it takes as much memory as a larger model would.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from xgboost import XGBRegressor

CLINICS = (
    *("accra", "berlin", "cairo", "delhi", "hanoi", "kyoto"),
    *("lima", "nairobi", "oslo", "quito", "rome", "seoul"),
)
LATECOMER = "tokyo"

CONTENT_TYPE = "text/csv"

_PATIENTS = load_diabetes(scaled=False)
_MIB = 1 << 20
_BALLAST_MIB = (24, 32, 40)

# What ONNX Runtime holds for each byte of a model's metadata.
_ONNX_COPIES = 3

# Answers come as text of single or double precision.
_TOLERANCE = 1e-3


def patients(count: int) -> bytes:
    """A request about so many."""
    lines = [",".join(map(str, row)) for row in _PATIENTS.data[:50]]
    return "\n".join(lines[number % len(lines)] for number in range(count)).encode()


@dataclass(frozen=True)
class Model:
    """A clinic's model: its archive, and what it says about the first patient."""

    framework: str
    archive: Path
    first: float

    @property
    def target(self) -> str:
        """Its ``TargetModel``."""
        return self.archive.name

    @property
    def clinic(self) -> str:
        """Its short name."""
        return short(self.target)

    def check(self, answer: bytes, count: int) -> str:
        """What is wrong with an answer about so many patients; "" if nothing is."""
        values = json.loads(answer)
        if len(values) == count and abs(values[0] / self.first - 1) < _TOLERANCE:
            return ""
        return f"{self.target} said {values[:1]} about {count}, not {self.first}"


def short(target: str) -> str:
    """The clinic of a ``TargetModel``."""
    return target.partition(".")[0]


def train(clinic: str, directory: Path) -> Model:
    """Learn from the clinic's patients, and pack the archive into a directory."""
    number = (*CLINICS, LATECOMER).index(clinic)
    framework, write = list(_WRITERS.items())[number % len(_WRITERS)]
    theirs = np.random.default_rng(number).permutation(len(_PATIENTS.data))[:200]
    ballast = _BALLAST_MIB[number // len(_WRITERS) % len(_BALLAST_MIB)] * _MIB
    archive = directory / f"{clinic}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        first = write(Path(scratch), _PATIENTS.data[theirs], _PATIENTS.target[theirs], ballast)
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(scratch, arcname=".")
    return Model(framework, archive, first)


# --- one function for each framework: writes the model, returns what it says of the first patient


def _sklearn(model_dir: Path, data: Any, target: Any, ballast: int) -> float:
    return _joblib(Ridge().fit(data, target), model_dir, ballast)


def _xgboost(model_dir: Path, data: Any, target: Any, ballast: int) -> float:
    regressor = XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1)
    return _joblib(regressor.fit(data, target), model_dir, ballast)


def _joblib(estimator: Any, model_dir: Path, ballast: int) -> float:
    estimator.ballast = bytes(ballast)  # arrays would be mapped, and take none
    joblib.dump(estimator, model_dir / "model.joblib")
    return float(estimator.predict(_PATIENTS.data[:1])[0])


def _onnx(model_dir: Path, data: Any, target: Any, ballast: int) -> float:
    ridge = Ridge().fit(data, target)
    weights = {"weight": ridge.coef_, "bias": np.array([ridge.intercept_])}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["patients", "weight"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["progression"]),
        ],
        "clinic",
        [helper.make_tensor_value_info("patients", TensorProto.FLOAT, ["rows", data.shape[1]])],
        [helper.make_tensor_value_info("progression", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"ballast": " " * (ballast // _ONNX_COPIES)})
    onnx.save_model(model, str(model_dir / "model.onnx"))
    return float(ridge.predict(_PATIENTS.data[:1])[0])


_WRITERS: dict[str, Callable[[Path, Any, Any, int], float]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "onnx": _onnx,
}
FRAMEWORKS = tuple(_WRITERS)
