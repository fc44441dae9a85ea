"""Makes a tiny model of every installed framework: ``python -m benchmarks.framework_models DIR``.

Each in ``DIR/FRAMEWORK``, as the framework itself saves it and without code where it needs none.
``DIR/requests.json`` has a body in JSON for each. A program of its own, see ``weights.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

SCRIPTS = Path(__file__).parent / "inference"
IRIS_ROW = "[[5.1, 3.5, 1.4, 0.2]]"


def python(directory: Path) -> str:
    """An echo in plain Python."""
    (directory / "code").mkdir()
    shutil.copy(SCRIPTS / "echo.py", directory / "code" / "inference.py")
    return "[1]"


def sklearn(directory: Path) -> str:
    """A logistic regression."""
    joblib.dump(LogisticRegression(max_iter=1000).fit(*_iris()), directory / "model.joblib")
    return IRIS_ROW


def pytorch(directory: Path) -> str:
    """A state dict and its class."""
    import torch

    from benchmarks.inference.tiny_model import Net

    (directory / "code").mkdir()
    shutil.copy(SCRIPTS / "tiny_model.py", directory / "code" / "model.py")
    torch.save(Net().state_dict(), directory / "model.pt")
    return IRIS_ROW


def huggingface(directory: Path) -> str:
    """A text classifier with a vocabulary of two words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment,unused-ignore]
    make: Any = transformers.PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(directory)
    config = transformers.BertConfig(
        vocab_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertForSequenceClassification(config).save_pretrained(directory)
    return '{"inputs": "some words"}'


def onnx(directory: Path) -> str:
    """A matrix product."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(np.ones((4, 2), "f4"), "weights")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])]
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    graph = helper.make_graph([node], "tiny", inputs, outputs, [weights])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), directory / "model.onnx")
    return IRIS_ROW


def xgboost(directory: Path) -> str:
    """Two rounds of trees."""
    from xgboost import DMatrix, train

    train({"nthread": 1}, DMatrix(*_iris(), nthread=1), 2).save_model(directory / "model.ubj")
    return IRIS_ROW


def lightgbm(directory: Path) -> str:
    """Two rounds of trees."""
    from lightgbm import Dataset, train

    quiet = {"num_threads": 1, "verbose": -1}
    train(quiet, Dataset(*_iris(), params=quiet), 2).save_model(directory / "model.txt")
    return IRIS_ROW


def catboost(directory: Path) -> str:
    """Two rounds of trees."""
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(iterations=2, verbose=False, allow_writing_files=False)
    model.fit(*_iris()).save_model(str(directory / "model.cbm"))
    return IRIS_ROW


# By the framework's name; beside it what has to be installed.
MAKERS: dict[str, tuple[Callable[[Path], str], tuple[str, ...]]] = {
    "python": (python, ()),
    "sklearn": (sklearn, ()),
    "pytorch": (pytorch, ("torch",)),
    "huggingface": (huggingface, ("transformers", "torch")),
    "onnx": (onnx, ("onnxruntime", "onnx")),
    "xgboost": (xgboost, ("xgboost",)),
    "lightgbm": (lightgbm, ("lightgbm",)),
    "catboost": (catboost, ("catboost",)),
}


def write_all(directory: Path) -> None:
    """Make what can be made here."""
    os.environ["TQDM_DISABLE"] = "1"  # no progress bars
    requests = {}
    for name, (make, modules) in MAKERS.items():
        if all(find_spec(module) is not None for module in modules):
            (directory / name).mkdir(parents=True)
            requests[name] = make(directory / name)
    (directory / "requests.json").write_text(json.dumps(requests))


def _iris() -> tuple[Any, Any]:
    features, labels = load_iris(return_X_y=True)
    return features, labels


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
