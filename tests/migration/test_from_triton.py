"""docs/how-to/migrate-from-triton.md, row by row, by archives of Triton on a real server."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.inspection import inspect_model
from handlers.types import HandlerOptions

from .conftest import Old
from .tables import Rows

rows = Rows("how-to/migrate-from-triton.md")

X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
CONFIG = 'backend: "python"\n' + X + Y

# Answers with what it was told: y is x twice, and what the file "told" of the class makes of it.
CODE = """
import json
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.config = json.loads(args["model_config"])

    def execute(self, requests):
        self.together = len(requests)
        return [pb.InferenceResponse(self.outputs(request)) for request in requests]

    def outputs(self, request):
        told = json.dumps(TOLD)
        tensors = [pb.Tensor("told", np.array([told.encode()], dtype=object))]
        for tensor in request.inputs():
            if tensor.as_numpy().dtype != object:
                tensors.append(pb.Tensor("y", tensor.as_numpy() * 2))
        return tensors
"""
NOTHING = "class TritonPythonModel:\n  def execute(self, requests): return []\n"


def python(told: str, config: str = CONFIG, version: str = "1") -> dict[str, str | bytes]:
    """A model of the python backend that answers with the value of an expression."""
    config += 'output { name: "told" data_type: TYPE_STRING dims: 1 }\n'
    return {"net/config.pbtxt": config, f"net/{version}/model.py": CODE.replace("TOLD", told)}


def call(*values: float, shape: Any = None, **more: Any) -> dict[str, Any]:
    """A request whose one input is x."""
    x = {"name": "x", "shape": shape or [len(values)], "datatype": "FP32", "data": list(values)}
    return {"inputs": [x], **more}


def outputs(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by the names of outputs, as lists."""
    return {o["name"]: np.array(o["data"]).reshape(o["shape"]).tolist() for o in answer["outputs"]}


def told(old: Old, expression: str, config: str = CONFIG) -> Any:
    """What an expression in a model of that configuration is."""
    batched = "max_batch_size" in config
    name = old.load(python(expression, config))
    answer = old.answer(name, call(1, shape=[1, 1] if batched else None))
    return json.loads(np.ravel(outputs(answer)["told"])[0])


def settings(old: Old, config: str) -> dict[str, Any]:
    """The settings in force of a model with that configuration."""
    name = old.load({"config.pbtxt": CONFIG + config, "1/model.py": NOTHING})
    found: dict[str, Any] = old.told(name)["settings"]
    return found


def refused(old: Old, config: str) -> str:
    """Why a model of that configuration does not load."""
    return old.refused({"config.pbtxt": config, "1/model.py": NOTHING})


def refusal(old: Old, name: str, document: Any) -> str:
    """Why a request is 400."""
    answer = old.invoke(name, json.dumps(document))
    assert answer.status_code == 400, answer.text
    return str(answer.json()["message"])


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """y = x + x, for rows of two."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 13)]
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path.read_bytes()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """TorchScript of two inputs: their difference."""
    import torch

    class Net(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    path = tmp_path_factory.mktemp("script") / "model.pt"
    trace: Any = torch.jit.trace
    with warnings.catch_warnings(action="ignore"):
        trace(Net(), (torch.ones(1, 2), torch.ones(1, 2))).save(str(path))
    return path.read_bytes()


# --- config.pbtxt -----------------------------------------------------------------------------


@rows("name", "initialize", "parameters")
def test_what_initialize_is_told(old: Old) -> None:
    config = CONFIG + 'name: "net" parameters { key: "k" value { string_value: "v" } }\n'
    args = told(old, "self.args", config)
    assert (args["model_name"], args["model_version"]) == ("net", "1")
    assert args["model_instance_kind"] == "CPU"
    assert args["model_repository"].endswith("/net") or args["model_repository"].endswith(
        old.loaded[-1]
    )
    assert all(isinstance(value, str) for value in args.values())
    assert json.loads(args["model_config"])["parameters"] == {"k": {"string_value": "v"}}
    name = old.loaded[-1]
    assert old.answer(name, call(1))["model_name"] == name
    headers = {"X-Amzn-SageMaker-Target-Model": "a.tar.gz"}
    assert old.invoke(name, json.dumps(call(1)), **headers).json()["model_name"] == "a.tar.gz"


@rows("backend", "platform", "default_model_filename", "application/json")
def test_files_of_frameworks(old: Old, onnx: bytes) -> None:
    for config, file in (
        ('backend: "onnxruntime"', "model.onnx"),
        ('platform: "onnxruntime_onnx"', "model.onnx"),
        ('backend: "onnxruntime" default_model_filename: "n.onnx"', "n.onnx"),
        ("", "model.onnx"),
    ):
        name = old.load({"net/config.pbtxt": config, f"net/1/{file}": onnx})
        assert old.told(name)["framework"] == "onnx"
        answer = old.answer(name, call(1, 2, 3, 4, shape=[2, 2]))
        assert outputs(answer) == {"y": [[2, 4], [6, 8]]}


@pytest.mark.parametrize("config", ['platform: "tensorflow_savedmodel"', 'backend: "tensorflow"'])
@rows()
def test_a_saved_model_is_tensorflows(tmp_path: Path, config: str) -> None:
    (tmp_path / "1/model.savedmodel").mkdir(parents=True)
    (tmp_path / "1/model.savedmodel/saved_model.pb").touch()
    (tmp_path / "config.pbtxt").write_text(config)
    assert inspect_model(tmp_path, HandlerOptions()).framework == "tensorflow"


@rows("version_policy")
def test_the_highest_version_that_the_policy_allows(old: Old) -> None:
    for policy, version in (("", "10"), ("version_policy { specific { versions: [ 2 ] } }", "2")):
        files = python("self.args['model_version']", CONFIG + policy, "2")
        files["net/10/model.py"] = files["net/2/model.py"]
        answer = old.answer(old.load(files), call(1))
        assert answer["model_version"] == version
        assert outputs(answer)["told"] == [f'"{version}"']


@rows("max_batch_size", "input", "output", "data_type", "dims")
def test_requests_are_checked(old: Old) -> None:
    config = CONFIG.replace("-1", "2") + "max_batch_size: 2\n"
    name = old.load(python("0", config))
    assert outputs(old.answer(name, call(1, 2, shape=[1, 2])))["y"] == [[2, 4]]
    wrong = call(1, 2, shape=[1, 2])
    wrong["inputs"][0]["name"] = "z"
    assert "'x' is missing" in refusal(old, name, wrong)
    wrong["inputs"][0] |= {"name": "x", "datatype": "FP64"}
    assert "FP32, not FP64" in refusal(old, name, wrong)
    assert "takes [-1, 2]" in refusal(old, name, call(1, shape=[1, 1]))
    assert "2 at most" in refusal(old, name, call(*range(6), shape=[3, 2]))
    assert "no output 'z'" in refusal(old, name, call(1, 2, shape=[1, 2], outputs=[{"name": "z"}]))
    assert "TYPE_BF16" in refused(old, CONFIG.replace("TYPE_FP32", "TYPE_BF16"))


@rows("reshape", "optional")
def test_reshaped_and_optional_inputs(old: Old) -> None:
    config = """
    backend: "python" max_batch_size: 4
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } },
            { name: "more" data_type: TYPE_STRING dims: [ 1 ] optional: true } ]
    """
    expression = "[list(t.as_numpy().shape) for t in request.inputs()]"
    assert told(old, expression, config) == [[1]]


@rows("instance_group")
def test_instances_are_processes(old: Old) -> None:
    found = settings(old, "instance_group [ { count: 2 kind: KIND_CPU } ]")
    assert (found["minWorkers"], found["maxWorkers"], found["device"]) == (2, 2, "cpu")
    assert len(old.told(old.loaded[-1])["workers"]) == 2
    assert settings(old, "instance_group [ { kind: KIND_GPU } ]")["device"] == "auto"


@rows("dynamic_batching", "max_queue_delay_microseconds", "execute")
def test_requests_that_wait_come_together(old: Old) -> None:
    config = CONFIG + "max_batch_size: 3\ndynamic_batching "
    # Long enough that only a batch which is full does not wait for the end of it.
    name = old.load(python("self.together", config + "{ max_queue_delay_microseconds: 30000000 }"))
    found = old.told(name)["settings"]
    assert (found["batchSize"], found["maxBatchDelayMs"]) == (3, 30000.0)
    answers = old.together(name, [call(n, shape=[1, 1]) for n in range(3)])
    assert [outputs(answer)["told"] for answer in answers] == [["3"]] * 3
    assert sorted(outputs(answer)["y"][0][0] for answer in answers) == [0, 2, 4]
    many = settings(old, "max_batch_size: 1000 dynamic_batching { }")
    assert (many["batchSize"], many["maxBatchDelayMs"]) == (128, 0.0)


@rows("preferred_batch_size", "default_queue_policy", "optimization", "model_warmup")
@rows("response_cache", "metric_tags", "cc_model_filenames")
def test_what_is_passed_over(old: Old) -> None:
    more = """
    max_batch_size: 4
    dynamic_batching { preferred_batch_size: [ 2, 4 ] default_queue_policy { max_queue_size: 3 } }
    optimization { graph { level: 1 } cuda { graphs: true } }
    model_warmup [ { name: "w" batch_size: 1 inputs { key: "x" value {
        data_type: TYPE_FP32 dims: 4 zero_data: true } } } ]
    response_cache { enable: true }
    metric_tags { key: "a" value: "b" }
    cc_model_filenames { key: "7.5" value: "other.py" }
    """
    assert settings(old, more)["batchSize"] == 4


@rows("intra_op_thread_count")
def test_threads(old: Old) -> None:
    more = 'parameters { key: "intra_op_thread_count" value { string_value: "2" } }'
    assert settings(old, more)["threads"] == 2


@rows("EXECUTION_ENV_PATH")
def test_a_packed_environment(old: Old) -> None:
    config = CONFIG + 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "e.tar.gz" } }'
    assert "List its packages in requirements.txt" in refused(old, config)
    files = {"config.pbtxt": config, "1/model.py": NOTHING, "requirements.txt": "six"}
    assert inspect_model(old.put(files), HandlerOptions()).requirements is not None


@rows("ensemble_scheduling", "sequence_batching", "model_transaction_policy")
def test_what_needs_other_models_or_other_requests(old: Old) -> None:
    ensemble = 'platform: "ensemble" ensemble_scheduling { step [ { model_name: "a" } ] }'
    assert "in one model of the python backend" in refused(old, ensemble)
    several = {f"{n}/{f}": CONFIG for n in "ab" for f in ("config.pbtxt", "1/model.py")}
    assert "several models of Triton (a, b)" in old.refused(several)
    assert "send the state" in refused(old, CONFIG + "sequence_batching { direct { } }")
    decoupled = CONFIG + "model_transaction_policy { decoupled: true }"
    assert "stream from code/inference.py" in refused(old, decoupled)


@rows("tensorrt", "tensorrt_plan", "openvino", "tensorflow_graphdef", "dali", "vllm")
def test_other_backends_say_what_to_do(old: Old) -> None:
    assert "ONNX or TorchScript" in refused(old, 'backend: "tensorrt"')
    assert "ONNX or TorchScript" in refused(old, 'platform: "tensorrt_plan"')
    assert "ONNX file" in refused(old, 'backend: "openvino"')
    assert "SavedModel" in refused(old, 'platform: "tensorflow_graphdef"')
    assert "preprocessing" in refused(old, 'backend: "dali"')
    assert "Served are python" in refused(old, 'backend: "vllm"')


# --- models in Python -------------------------------------------------------------------------


@rows("auto_complete_config")
def test_a_model_completes_its_configuration(old: Old) -> None:
    complete = """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [2]})
        config.set_max_batch_size(1)
        config.set_dynamic_batching()
        return config

    def initialize"""
    code = CODE.replace("TOLD", "0").replace("\n    def initialize", complete)
    name = old.load({"config.pbtxt": 'backend: "python"', "1/model.py": code})
    assert old.told(name)["settings"]["batchSize"] == 1
    assert outputs(old.answer(name, call(1, 2, shape=[1, 2])))["y"] == [[2, 4]]
    assert "takes [-1, 2]" in refusal(old, name, call(1, 2, 3, shape=[1, 3]))


@rows("finalize")
def test_a_model_is_finalized(old: Old, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    code = NOTHING + f"  def finalize(self): open({str(gone)!r}, 'w').close()\n"
    old.load({"config.pbtxt": CONFIG, "1/model.py": code})
    old.unload_all()
    assert gone.exists()


@rows("TritonError", "InferenceRequest.exec", "async_exec", "get_response_sender")
def test_errors_of_models(old: Old) -> None:
    for statement, status, message in (
        ("return pb.TritonError('a', pb.TritonError.INVALID_ARG)", 400, "a"),
        ("return pb.TritonError('b', pb.TritonError.UNAVAILABLE)", 503, "b"),
        ("return pb.TritonError('c')", 500, "c"),
        ("pb.InferenceRequest(model_name='other').exec()", 500, "both steps in this one"),
        ("pb.InferenceRequest(model_name='other').async_exec().send(None)", 500, "both steps"),
        ("request.get_response_sender()", 500, "return the response"),
    ):
        code = f"""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse(error=self.fail(request)) for request in requests]
    def fail(self, request):
        {statement}
"""
        name = old.load({"config.pbtxt": CONFIG, "1/model.py": code})
        answer = old.invoke(name, json.dumps(call(1)))
        assert answer.status_code == status, answer.text
        assert message in answer.json()["message"]


@rows("MetricFamily")
def test_metrics_of_a_models_own(old: Old) -> None:
    family = "pb.MetricFamily('n', 'd', pb.MetricFamily.COUNTER).Metric(labels={'a': 'b'})"
    assert told(old, f"[(m.increment(2), m.value())[1] for m in [{family}]]") == [2]


# --- frameworks -------------------------------------------------------------------------------


@rows("INPUT__0")
def test_inputs_of_torchscript(old: Old, script: bytes) -> None:
    for first, second in (("b", "a"), ("INPUT__1", "INPUT__0")):
        tensors = [f'{{ name: "{n}" data_type: TYPE_FP32 dims: [ 2 ] }}' for n in (first, second)]
        config = 'platform: "pytorch_libtorch" max_batch_size: 8 '
        config += f"input [ {', '.join(tensors)} ] "
        name = old.load(
            {"config.pbtxt": config + Y.replace('"y"', '"OUTPUT__0"'), "1/model.pt": script}
        )
        described = {"shape": [1, 2], "datatype": "FP32"}
        b = {"name": first, "data": [1, 2], **described}
        a = {"name": second, "data": [5, 5], **described}
        assert outputs(old.answer(name, {"inputs": [b, a]})) == {"OUTPUT__0": [[4, 3]]}


@rows("model_type", "output_class", "predict_proba", "threshold")
def test_trees(old: Old) -> None:
    import xgboost

    points = np.random.default_rng(0).random((200, 2), dtype=np.float32)
    data = xgboost.DMatrix(points, label=(points[:, 0] > 0.5).astype(int))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    probabilities = booster.predict(xgboost.DMatrix(points[:3]))

    def ask(dims: int, kind: str, **parameters: str) -> Any:
        given = {"model_type": kind, **parameters}
        told = [f'{{ key: "{k}" value {{ string_value: "{v}" }} }}' for k, v in given.items()]
        config = f"""
        backend: "fil" max_batch_size: 8 parameters [ {", ".join(told)} ]
        input [ {{ name: "input__0" data_type: TYPE_FP32 dims: [ 2 ] }} ]
        output [ {{ name: "output__0" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
        """
        form = kind.partition("_")[2]
        file = {f"1/xgboost.{form}": bytes(booster.save_raw(form))}
        name = old.load({"config.pbtxt": config, **file})
        x = {"name": "input__0", "shape": [3, 2], "datatype": "FP32", "data": points[:3].tolist()}
        return outputs(old.answer(name, {"inputs": [x]}))["output__0"]

    values = np.array(ask(1, "xgboost_json"))[:, 0]
    assert np.allclose(values, probabilities)
    both = ask(2, "xgboost_ubj", output_class="true", predict_proba="true")
    assert np.allclose(both, np.stack([1 - probabilities, probabilities], axis=1))
    classes = ask(1, "xgboost_ubj", output_class="true", threshold="0")
    assert classes == [[1.0], [1.0], [1.0]]
    checkpoint = 'backend: "fil" parameters { key: "model_type" value { string_value: "%s" } }'
    assert "Served are xgboost" in refused(old, checkpoint % "treelite_checkpoint")


# --- requests ---------------------------------------------------------------------------------


@rows("application/vnd.sagemaker-triton.binary+json", "Inference-Header-Content-Length")
def test_bytes(old: Old) -> None:
    name = old.load(python("0"))
    x = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    wanted = [{"name": "y", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [x], "outputs": wanted}).encode()
    body = head + struct.pack("<2f", 1, 2)
    sagemaker = "application/vnd.sagemaker-triton.binary+json;json-header-size="
    answer = old.invoke(name, body, f"{sagemaker}{len(head)}")
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["content-type"].removeprefix(sagemaker))
    assert struct.unpack("<2f", answer.content[size:]) == (2, 4)

    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = old.invoke(name, body, "application/octet-stream", **length)
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["Inference-Header-Content-Length"])
    assert struct.unpack("<2f", answer.content[size:]) == (2, 4)

    alone = {"Inference-Header-Content-Length": "0"}
    answer = old.invoke(name, struct.pack("<2f", 3, 4), "application/octet-stream", **alone)
    assert answer.status_code == 200, answer.text
    assert struct.pack("<2f", 6, 8) in answer.content


@rows("classification", "shared_memory_region")
def test_extensions_that_are_not_served(old: Old) -> None:
    name = old.load(python("0"))
    wanted = [{"name": "y", "parameters": {"classification": 2}}]
    assert "sort the output" in refusal(old, name, call(1, outputs=wanted))
    shared = call(1)
    shared["inputs"][0]["parameters"] = {"shared_memory_region": "r"}
    assert "send the data" in refusal(old, name, shared)


@rows("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "SAGEMAKER_TRITON_LOG_VERBOSE")
@rows("SAGEMAKER_TRITON_LOG_INFO", "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE")
@rows("SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE", "SAGEMAKER_TRITON_THREAD_COUNT")
def test_variables_are_passed_over(old_with: Callable[[Mapping[str, str]], Old]) -> None:
    names = [key for key in rows.there if key.startswith("SAGEMAKER_TRITON_")]
    old = old_with(dict.fromkeys(names, "7"))
    assert told(old, "7") == 7


def test_each_row_has_a_test() -> None:
    rows.check()
