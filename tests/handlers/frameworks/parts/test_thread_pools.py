"""How many threads a model really computes with, in a process forked from a zygote of its kind."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from onnx import TensorProto, helper, numpy_helper

from handlers.frameworks.parts import thread_pools

ROOT = Path(__file__).parents[4]

ROWS = np.random.default_rng(0).random((500, 8))
LABELS = (ROWS[:, 0] > 0.5).astype(int)

# As the server does it: preload, fork, then load and predict. Prints the threads that this started.
COMPUTES = """
import os, sys
from pathlib import Path
import numpy as np
from handlers.frameworks import FRAMEWORKS
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Resources

folder, threads = Path(sys.argv[1]), int(sys.argv[2])
plan = inspect_model(folder, HandlerOptions(shared_code_dir=str(folder)))
framework = FRAMEWORKS[plan.framework]
framework.preload()
pid = os.fork()
if pid == 0:
    framework.after_fork(threads)
    before = len(list(Path("/proc/self/task").iterdir()))  # BLAS has started its own
    model = framework.load(plan, Resources(threads=threads))
    framework.predict_fn(np.random.default_rng(1).random((20_000, 8)), model)
    print(len(list(Path("/proc/self/task").iterdir())) - before, flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def write_booster(folder: Path) -> None:
    matrix = xgboost.DMatrix(ROWS, LABELS, nthread=1)
    xgboost.train({"nthread": 1}, matrix, 20).save_model(folder / "model.ubj")


def write_pickle(folder: Path, model: Any) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(model.fit(ROWS, LABELS)))


def write_text(folder: Path) -> None:
    rows = lightgbm.Dataset(ROWS, LABELS, params={"verbose": -1})
    settings = {"num_threads": 1, "verbose": -1}
    lightgbm.train(settings, rows, 20).save_model(folder / "model.txt")


def write_onnx(folder: Path) -> None:
    shape: list[Any] = [TensorProto.FLOAT, ["n", 8]]
    weights = numpy_helper.from_array(np.ones((8, 8), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", *shape)],
        [helper.make_tensor_value_info("y", *shape)],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save_model(model, str(folder / "model.onnx"))


MODELS: dict[str, Callable[[Path], None]] = {
    "xgboost": write_booster,
    "xgboost estimator": lambda folder: write_pickle(
        folder, xgboost.XGBClassifier(n_estimators=20, n_jobs=8)
    ),
    "lightgbm": write_text,
    "lightgbm estimator": lambda folder: write_pickle(
        folder, lightgbm.LGBMClassifier(n_estimators=20, n_jobs=8, verbose=-1)
    ),
    "catboost": lambda folder: write_pickle(
        folder,
        catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False),
    ),
    "onnx": write_onnx,
}


@pytest.mark.parametrize("threads", [1, 2])  # XGBoost and CatBoost take no more than cores
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_computes_with_its_number_of_threads(
    tmp_path: Path, kind: str, threads: int
) -> None:
    MODELS[kind](tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPUTES, str(tmp_path), str(threads)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == threads - 1


def test_the_number_of_threads_is_remembered() -> None:
    try:
        thread_pools.limit(3)
        assert thread_pools.allowed() == 3
    finally:
        thread_pools.limit(1)
