"""Train a classifier of handwritten digits and write it as ``model.onnx`` and ``weights.bin``.

Exporters of PyTorch, TensorFlow and scikit-learn write such files; here the three nodes are put
together by hand. The weights are external data: the server maps them, and copies of the model share
them. The request names the model's input; with only one, ``{"inputs": rows}`` would do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: the graph and its weights."""
    digits = load_digits()
    learned = LogisticRegression(max_iter=200).fit(digits.data / 16, digits.target)
    weights = {"weight": learned.coef_.T / 16, "bias": learned.intercept_}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pixels", "weight", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
            helper.make_node("ArgMax", ["scores"], ["digit"], axis=1, keepdims=0),
        ],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 64])],
        [
            helper.make_tensor_value_info("digit", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10]),
        ],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(
        helper.make_model(graph, opset_imports=opsets, ir_version=8),
        str(model_dir / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
