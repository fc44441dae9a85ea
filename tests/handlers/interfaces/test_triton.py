from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.errors import HandlerError, ModelLoadError
from handlers.service import LoadedModel
from handlers.types import Headers, Request, Response

Load = Callable[..., LoadedModel]

CONFIG = """
backend: "python" max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
CODE = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils
from .beside import FACTOR

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        config = json.loads(args["model_config"])
        output = pb_utils.get_output_config_by_name(config, "y")
        self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])

    def execute(self, requests):
        self.together = len(requests)
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            if (x < 0).any():
                error = pb_utils.TritonError("no negatives", pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(output_tensors=[], error=error))
                continue
            y = pb_utils.Tensor("y", (x * FACTOR).astype(self.dtype))
            responses.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return responses

    def finalize(self):
        self.args["gone"] = "yes"
"""
FILES = {"m/config.pbtxt": CONFIG, "m/1/model.py": CODE, "m/1/beside.py": "FACTOR = 2"}


def ask(*rows: Any, datatype: str = "FP32", shape: Any = None, **more: Any) -> Request:
    """A request whose one input is x."""
    shape = shape or list(np.shape(rows))
    x = {"name": "x", "shape": shape, "datatype": datatype, "data": list(rows)}
    return Request(json.dumps({"inputs": [x], **more}).encode())


def output(answer: Response | HandlerError, name: str = "y") -> Any:
    """An output as an array."""
    assert isinstance(answer, Response), answer
    found = {each["name"]: each for each in json.loads(answer.body)["outputs"]}
    return np.array(found[name]["data"]).reshape(found[name]["shape"]).tolist()


def own(model: LoadedModel) -> Any:
    """The author's object."""
    service: Any = model._service
    return service._backend.owner


def test_a_python_model_answers(load: Load) -> None:
    model = load(FILES)
    answer = model.invoke(ask([1, 2], id="7"))
    assert json.loads(answer.body) == {
        "id": "7",
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}],
    }
    args = own(model).args
    assert args["model_repository"].endswith("/m")
    assert (args["model_name"], args["model_version"]) == ("m", "1")
    assert (args["model_instance_kind"], args["model_instance_device_id"]) == ("CPU", "0")
    config = json.loads(args["model_config"])
    assert config["input"][0]["dims"] == [2]
    assert config["input"][0]["optional"] is False
    assert config["instance_group"] == []
    model.finalize()
    assert args["gone"] == "yes"


def test_triton_calls_a_model_by_its_target(load: Load) -> None:
    request = ask([1, 2])
    headers = Headers((("X-Amzn-SageMaker-Target-Model", "a.tar.gz"),))
    answer = load(FILES).invoke(Request(request.body, headers))
    assert json.loads(answer.body)["model_name"] == "a.tar.gz"


def test_a_batch_is_one_call_and_bad_requests_fail_alone(load: Load) -> None:
    model = load(FILES)
    answers = model.invoke_batch([ask([1, 1]), ask([-1, 1]), ask([1]), ask([3, 3], [4, 4])])
    assert own(model).together == 3
    assert output(answers[0]) == [[2, 2]]
    assert isinstance(answers[1], HandlerError)
    assert (answers[1].status, answers[1].message) == (400, "no negatives")
    assert isinstance(answers[2], HandlerError)
    assert answers[2].status == 400
    assert output(answers[3]) == [[6, 6], [8, 8]]


def test_a_call_has_no_more_rows_than_max_batch_size(load: Load) -> None:
    model = load(FILES)
    answers = model.invoke_batch([ask([1, 1], [2, 2], [3, 3]), ask([4, 4]), ask([5, 5])])
    assert own(model).together == 1
    assert [output(answer) for answer in answers] == [
        [[2, 2], [4, 4], [6, 6]],
        [[8, 8]],
        [[10, 10]],
    ]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (ask([1, 2], datatype="INT32"), "'x' is FP32, not INT32"),
        (ask([1, 2, 3]), "has the shape [1, 3]; the model takes [-1, 2]"),
        (ask(1, 2), "has the shape [2]; the model takes [-1, 2]"),
        (ask(*[[1, 2]] * 5), "5 rows; the model takes 4 at most"),
        (ask([1, 2], outputs=[{"name": "z"}]), "no output 'z'; there are y"),
        (Request(b'{"inputs": []}'), "takes the inputs x; 'x' is missing"),
        (Request(b"1,2", Headers((("Content-Type", "text/csv"),))), "a model of Triton"),
    ],
)
def test_requests_are_checked_against_the_config(load: Load, request_: Request, told: str) -> None:
    with pytest.raises(HandlerError) as caught:
        load(FILES).invoke(request_)
    assert told in caught.value.message
    assert caught.value.status in (400, 415)


def test_a_scalar_where_rows_are_due_is_refused(load: Load) -> None:
    body = b'{"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [1]}]}'
    with pytest.raises(HandlerError, match="takes") as caught:
        load(FILES).invoke(Request(body))
    assert caught.value.status == 400


def test_bytes_alone(load: Load) -> None:
    headers = Headers((("Inference-Header-Content-Length", "0"),))
    body = np.array([3, 4], dtype="<f4").tobytes()
    answer = load(FILES).invoke(Request(body, headers))
    size = int(dict(answer.headers)["Inference-Header-Content-Length"])
    assert np.frombuffer(answer.body[size:], "<f4").tolist() == [6, 8]


def test_what_a_model_completes_by_itself(load: Load) -> None:
    code = """
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        assert config.as_dict()["input"] == []
        config.add_input({"name": "x", "data_type": "TYPE_STRING", "dims": [-1]})
        config.add_input({"name": "o", "data_type": "TYPE_BOOL", "dims": [1], "optional": True})
        config.add_output({"name": "y", "data_type": "TYPE_STRING", "dims": [-1]})
        config.set_max_batch_size(0)
        return config
    async def execute(self, requests):
        texts = pb.get_input_tensor_by_name(requests[0], "x").as_numpy()
        assert pb.get_input_tensor_by_name(requests[0], "o") is None
        assert requests[0].requested_output_names() == ["y"]
        upper = np.array([text.upper() for text in texts], dtype=np.object_)
        return [pb.InferenceResponse([pb.Tensor("y", upper)])]
"""
    model = load({"config.pbtxt": 'backend: "python"', "1/model.py": code})
    assert output(model.invoke(ask("a", "b", datatype="BYTES"))) == ["A", "B"]
    with pytest.raises(HandlerError, match="is BYTES, not FP32"):
        model.invoke(ask(1))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return []", "returned 0 for 1 requests"),
        ("return None", "returned NoneType for 1 requests"),
        ("return [3]", "returned a int for a request"),
        ("return [pb.InferenceResponse([])]", "y"),
        ("raise pb.TritonModelException('bad luck')", "TritonModelException: bad luck"),
        ("requests[0].get_response_sender()", "decoupled models are not served"),
        ("pb.InferenceRequest(model_name='o', inputs=[]).exec()", "cannot call another one here"),
        ("return [pb.InferenceResponse(error=pb.TritonError('oh'))]", "oh"),
        ("return [pb.InferenceResponse([pb.Tensor('y', [1])])]", "needs a numpy array"),
    ],
)
def test_what_a_model_does_wrong_is_told(load: Load, body: str, told: str) -> None:
    code = f"""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        {body}
"""
    model = load({"config.pbtxt": CONFIG, "1/model.py": code})
    with pytest.raises(HandlerError) as caught:
        model.invoke(ask([1, 2], outputs=[{"name": "y"}]))
    assert told in caught.value.message
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "must define the class TritonPythonModel"),
        ("class TritonPythonModel: pass", "with a method execute"),
        ("import no_such_thing", "no_such_thing"),
        (
            "class TritonPythonModel:\n  def execute(self, r): pass\n"
            "  def initialize(self, args): raise OSError('no disk')",
            "OSError: no disk",
        ),
        (
            "class TritonPythonModel:\n  def execute(self, r): pass\n"
            "  auto_complete_config = staticmethod(lambda config: None)",
            "returned None",
        ),
        (
            "class TritonPythonModel:\n  def execute(self, r): pass\n"
            "  auto_complete_config = staticmethod(lambda config: config.add_input({}))",
            "has no name",
        ),
    ],
)
def test_models_that_do_not_load(load: Load, code: str, told: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load({"config.pbtxt": CONFIG, "1/model.py": code})
    assert told in caught.value.message


def onnx_of(path: Path, op: str = "Add") -> bytes:
    """``y = x + x``, rows of two."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node(op, ["x", "x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path.read_bytes()


ONNX = CONFIG.replace("python", "onnxruntime")


def test_onnx(load: Load, tmp_path: Path) -> None:
    model = load({"m/config.pbtxt": ONNX, "m/1/model.onnx": onnx_of(tmp_path / "x.onnx")})
    answers = model.invoke_batch([ask([1, 2]), ask([3, 4], [5, 6]), ask([1, 2], datatype="INT8")])
    assert output(answers[0]) == [[2, 4]]
    assert output(answers[1]) == [[6, 8], [10, 12]]
    assert isinstance(answers[2], HandlerError)


def test_onnx_without_inputs_in_the_config(load: Load, tmp_path: Path) -> None:
    config = 'platform: "onnxruntime_onnx"'
    model = load({"config.pbtxt": config, "1/model.onnx": onnx_of(tmp_path / "x.onnx")})
    assert output(model.invoke(ask([1, 2]))) == [[2, 4]]
    for wrong in (ask([1, 2], datatype="INT8"), ask([1, 2], outputs=[{"name": "z"}])):
        with pytest.raises(HandlerError) as caught:
            model.invoke(wrong)
        assert caught.value.status == 400


def test_onnx_with_other_names_does_not_load(load: Load, tmp_path: Path) -> None:
    config = ONNX.replace('"y"', '"out"')
    with pytest.raises(ModelLoadError, match="names 'out', but the outputs of the model are y"):
        load({"config.pbtxt": config, "1/model.onnx": onnx_of(tmp_path / "x.onnx")})


SCRIPT_CONFIG = """
platform: "pytorch_libtorch" max_batch_size: 8
input [ { name: "%s" data_type: TYPE_FP32 dims: [ 2 ] },
        { name: "%s" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "%s" data_type: TYPE_FP32 dims: [ 2 ] },
         { name: "%s" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A module of two inputs: their difference, and the sum of its row."""
    import warnings

    import torch

    class Net(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a - b, (a - b).sum(dim=1)

    path = tmp_path_factory.mktemp("script") / "model.pt"
    example = (torch.ones(1, 2), torch.ones(1, 2))
    trace: Any = torch.jit.trace
    with warnings.catch_warnings(action="ignore"):
        trace(Net(), example).save(str(path))
    return path.read_bytes()


@pytest.mark.parametrize(
    "names",
    [
        ("b", "a", "OUTPUT__0", "OUTPUT__1"),
        ("INPUT__1", "INPUT__0", "OUTPUT__0", "OUTPUT__1"),
        ("second__1", "first__0", "difference", "sum"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_by_name_and_by_place(
    load: Load, script: bytes, names: tuple[str, str, str, str]
) -> None:
    model = load({"m/config.pbtxt": SCRIPT_CONFIG % names, "m/1/model.pt": script})
    b = {"name": names[0], "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    a = {"name": names[1], "shape": [1, 2], "datatype": "FP32", "data": [5, 5]}
    request = Request(json.dumps({"inputs": [b, a]}).encode())
    for answer in model.invoke_batch([request, request]):
        assert output(answer, names[2]) == [[4, 3]]
        assert output(answer, names[3]) == [[7]]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_inputs_of_different_batches_are_refused(load: Load, script: bytes) -> None:
    names = ("a", "b", "OUTPUT__0", "OUTPUT__1")
    model = load({"config.pbtxt": SCRIPT_CONFIG % names, "1/model.pt": script})
    a = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    b = {"name": "b", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    with pytest.raises(HandlerError, match="as many rows; they have: a 1, b 2") as caught:
        model.invoke(Request(json.dumps({"inputs": [a, b]}).encode()))
    assert caught.value.status == 400


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_without_names_does_not_load(load: Load, script: bytes) -> None:
    with pytest.raises(ModelLoadError, match="must name input and output"):
        load({"config.pbtxt": 'backend: "pytorch"', "1/model.pt": script})
    names = ("INPUT__0", "INPUT__2", "a", "b")
    with pytest.raises(ModelLoadError, match="the model takes 2 by its order"):
        load({"config.pbtxt": SCRIPT_CONFIG % names, "1/model.pt": script})


FIL = """
backend: "fil" max_batch_size: 100
input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "output__0" data_type: TYPE_FP32 dims: [ %d ] } ]
parameters [ { key: "model_type" value: { string_value: "%s" } },
             { key: "output_class" value: { string_value: "%s" } },
             { key: "predict_proba" value: { string_value: "%s" } } ]
"""


def trees(objective: str, classes: int) -> tuple[Any, Any]:
    """A booster of XGBoost and rows for it."""
    import xgboost

    rows = np.random.default_rng(0).random((200, 2), dtype=np.float32)
    labels = (rows[:, 0] * classes).astype(int) if classes else rows[:, 0]
    more = {"num_class": classes} if classes > 2 else {}
    data = xgboost.DMatrix(rows, label=labels)
    return xgboost.train({"objective": objective, "nthread": 1, **more}, data, 5), rows[:3]


@pytest.mark.parametrize(
    ("objective", "classes", "output_class", "by_class", "dims"),
    [
        ("reg:squarederror", 0, "false", "false", 1),
        ("binary:logistic", 2, "false", "false", 1),
        ("binary:logistic", 2, "true", "false", 1),
        ("binary:logistic", 2, "true", "true", 2),
        ("multi:softprob", 3, "true", "true", 3),
        ("multi:softprob", 3, "true", "false", 1),
        ("multi:softmax", 3, "true", "false", 1),
    ],
)
def test_trees_of_xgboost(
    load: Load, objective: str, classes: int, output_class: str, by_class: str, dims: int
) -> None:
    import xgboost

    booster, rows = trees(objective, classes)
    config = FIL % (dims, "xgboost_json", output_class, by_class)
    model = load({"m/config.pbtxt": config, "m/1/xgboost.json": bytes(booster.save_raw("json"))})
    x = {"name": "input__0", "shape": [3, 2], "datatype": "FP32", "data": rows.tolist()}
    found = np.array(
        output(model.invoke(Request(json.dumps({"inputs": [x]}).encode())), "output__0")
    )
    plain = booster.predict(xgboost.DMatrix(rows))
    assert found.shape == (3, dims)
    if by_class == "true":
        expected = np.stack([1 - plain, plain], 1) if plain.ndim == 1 else plain
    elif output_class == "true" and objective != "multi:softmax":
        expected = plain > 0.5 if plain.ndim == 1 else plain.argmax(1)
    else:
        expected = plain
    assert np.allclose(found, np.reshape(expected, (3, dims)))


def test_trees_of_lightgbm(load: Load) -> None:
    import lightgbm

    rows = np.random.default_rng(0).random((200, 2))
    data = lightgbm.Dataset(rows, label=(rows[:, 0] > 0.5).astype(int))
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, data, num_boost_round=5)
    config = FIL % (1, "lightgbm", "true", "false")
    model = load({"m/config.pbtxt": config, "m/1/model.txt": booster.model_to_string()})
    x = {"name": "input__0", "shape": [2, 2], "datatype": "FP32", "data": [0.9, 0.5, 0.1, 0.5]}
    answer = model.invoke(Request(json.dumps({"inputs": [x]}).encode()))
    assert output(answer, "output__0") == [[1.0], [0.0]]
