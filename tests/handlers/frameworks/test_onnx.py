from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import onnx as framework
from handlers.types import Interface, ModelPlan, Request, Resources, Response, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]
Value = tuple[str, int, Sequence[Any]]


def model(
    nodes: Sequence[Any], inputs: Sequence[Value], outputs: Sequence[Value], **weights: Any
) -> Any:
    """An ONNX model; values are (name, type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def linear(rows: int = 2, columns: int = 2) -> Any:
    """The sum of a row's values, several times."""
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", rows])],
        [("y", TensorProto.FLOAT, ["n", columns])],
        w=np.ones((rows, columns), np.float32),
    )


def adds() -> Any:
    """Two inputs, two outputs: their sum, and whether it is greater than the first."""
    column = ["n", 1]
    return model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Greater", ["sum", "a"], ["more"]),
        ],
        [("a", TensorProto.INT64, column), ("b", TensorProto.INT64, column)],
        [("sum", TensorProto.INT64, column), ("more", TensorProto.BOOL, column)],
    )


def halves() -> Any:
    """One input, two outputs."""
    return model(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0),
        ],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("same", TensorProto.FLOAT, ["n", 2]), ("sum", TensorProto.FLOAT, ["n"])],
        axis=np.array([1]),
    )


@pytest.mark.parametrize("name", ["model.onnx", "net.onnx"])
def test_an_onnx_file_is_served_as_it_is(load: Load, ask: Ask, name: str) -> None:
    service = load({name: linear().SerializeToString()})
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0, 3.0]]"
    assert service.invoke(ask("1,2\n3,4\n", "text/csv", "text/csv")).body == b"3.0,3.0\n7.0,7.0\n"
    wrapped = service.invoke(ask('{"instances": [[1, 2]]}'))
    assert wrapped.body == b'{"predictions": [[3.0, 3.0]]}'
    named = service.invoke(ask('{"inputs": {"x": [[1, 2]]}}'))
    assert named.body == b'{"outputs": [[3.0, 3.0]]}'


@pytest.mark.parametrize("body", ['{"inputs": {"a": [[1]], "b": [[2]]}}', '{"a": [1], "b": [2]}'])
def test_several_inputs_come_by_name(load: Load, ask: Ask, body: str) -> None:
    service = load({"model.onnx": adds().SerializeToString()})
    answer = json.loads(service.invoke(ask(body)).body)
    assert answer.get("outputs", answer) == {"sum": [[3]], "more": [[True]]}


def test_rows_may_name_the_inputs(load: Load, ask: Ask) -> None:
    service = load({"model.onnx": adds().SerializeToString()})
    body = '{"instances": [{"a": 1, "b": 2}, {"b": 0, "a": 3}]}'
    assert json.loads(service.invoke(ask(body)).body) == {
        "predictions": [{"sum": [3], "more": [True]}, {"sum": [3], "more": [False]}]
    }


def test_several_outputs_are_one_object_a_row(load: Load, ask: Ask) -> None:
    service = load({"model.onnx": halves().SerializeToString()})
    assert json.loads(service.invoke(ask("[[1, 2], [3, 4]]")).body) == [
        {"same": [1, 2], "sum": 3},
        {"same": [3, 4], "sum": 7},
    ]


def test_text_goes_into_text(load: Load, ask: Ask) -> None:
    value = TensorProto.STRING, ["n"]
    node = helper.make_node("Identity", ["x"], ["y"])
    service = load(
        {"model.onnx": model([node], [("x", *value)], [("y", *value)]).SerializeToString()}
    )
    assert service.invoke(ask('["a", "b"]')).body == b'["a", "b"]'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[[1, 2, 3]]", "does not take this input: .*Got invalid dimensions for input: x"),
        ("[1, 2]", "Invalid rank for input: x"),
        ('[["a", "b"]]', "Input x cannot be an array of float32"),
        ("[[1], [1, 2]]", "Input x cannot be an array of float32"),
        ('{"inputs": {"y": [[1]]}}', "The model's inputs are x; the request has y"),
    ],
)
def test_input_that_does_not_fit_is_400(load: Load, ask: Ask, body: str, reason: str) -> None:
    service = load({"model.onnx": linear().SerializeToString()})
    with pytest.raises(InvalidInput, match=reason):
        service.invoke(ask(body))


def test_fractions_for_integers_and_rows_for_several_inputs_are_400(load: Load, ask: Ask) -> None:
    service = load({"model.onnx": adds().SerializeToString()})
    with pytest.raises(InvalidInput, match="values with a fraction"):
        service.invoke(ask('{"inputs": {"a": [[1.5]], "b": [[2]]}}'))
    with pytest.raises(InvalidInput, match=re.escape('{"inputs": {"a": [...], "b": [...]}}')):
        service.invoke(ask("[[1, 2]]"))


def with_external_data(folder: Path, rows: int, columns: int) -> None:
    onnx.save_model(
        linear(rows, columns),
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )


def test_external_data_is_mapped_and_not_read(tmp_path: Path) -> None:
    with_external_data(tmp_path, 2048, 4096)
    plan = ModelPlan(str(tmp_path), "onnx", Interface.DEFAULT, artifact="model.onnx")
    before = anonymous_bytes()
    session = framework.load(plan, Resources())
    assert framework.predict_fn(np.ones((1, 2048)), session).tolist() == [[2048] * 4096]
    weights = (tmp_path / "weights.bin").stat().st_size
    assert weights == 32 << 20
    assert anonymous_bytes() - before < weights / 2


def anonymous_bytes() -> int:
    """Not Private_Dirty: pages of a file that was just written are dirty, too."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous: +(\d+)", text)[1]) << 10  # type: ignore[index]


def test_missing_external_data_is_told(load: Load, tmp_path: Path) -> None:
    with_external_data(tmp_path, 4, 4)
    content = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(ModelLoadError, match=r"weights\.bin.*put these beside it"):
        load({"model.onnx": content})


def newer(part: str) -> bytes:
    proto = linear()
    if part == "ir":
        proto.ir_version = 99
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "No graph was found"),
        (b"garbage", "Protobuf parsing failed"),
        (linear(500).SerializeToString()[:-90], "ONNX Runtime .* cannot load model.onnx"),
        (newer("ir"), "version: 99, max supported IR version"),
    ],
)
def test_a_broken_file_fails_the_load(load: Load, content: bytes, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load({"model.onnx": content})


def test_a_script_may_bring_the_session_and_leave_the_rest(load: Load, ask: Ask) -> None:
    script = """
import onnxruntime
def model_fn(model_dir):
    return onnxruntime.InferenceSession(model_dir + "/net.onnx")
"""
    service = load({"net.onnx": linear().SerializeToString(), "code/inference.py": script})
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0, 3.0]]"


def test_a_gpu_is_used_if_the_build_can_and_else_said_not_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = [framework.CUDA, framework.CPU]
    assert framework._providers(built, 1) == [(framework.CUDA, {"device_id": 1}), framework.CPU]
    assert framework._providers(built, None) == [framework.CPU]
    onnx.save_model(linear(), str(tmp_path / "model.onnx"))
    plan = ModelPlan(str(tmp_path), "onnx", Interface.DEFAULT, artifact="model.onnx")
    session = framework.load(plan, Resources(gpu_id=0))
    if framework.CUDA not in session.get_providers():
        assert "runs on the CPU" in caplog.text


def test_a_batch_is_one_prediction(load: Load, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    service = load({"model.onnx": halves().SerializeToString()})
    requests = [ask("[[0, 1], [3, 0]]"), ask("3,0\n", "text/csv"), ask('{"instances": [[0, 1]]}')]
    alone = [service.invoke(request).body for request in requests]
    assert service.takes_batches
    answers = service.invoke_batch(requests)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == alone
    assert not caplog.text, "what cannot be stacked is logged"
