from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.directory.model_settings import read_settings
from handlers.directory.triton import TensorSpec, read_triton, triton_settings
from handlers.errors import ModelLoadError
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Interface, ModelSettings

Make = Callable[..., Path]

PYTHON = 'backend: "python"\n'
FIL = 'backend: "fil" parameters { key: "model_type" value { string_value: "%s" } }'


def test_a_config_in_the_root_or_in_the_one_folder(make: Make) -> None:
    root = read_triton(make({"config.pbtxt": PYTHON, "1/model.py": ""}, name="root"))
    folder = read_triton(make({"net/config.pbtxt": PYTHON, "net/1/model.py": ""}, name="folder"))
    assert root is not None
    assert folder is not None
    assert (root.name, root.version) == ("root", "1")
    assert (folder.name, folder.file.name) == ("net", "model.py")


def test_what_is_no_model_of_tritons_is_left_alone(make: Make) -> None:
    assert read_triton(make({"code/inference.py": "", "1/model.py": ""})) is None
    assert triton_settings(make({"x.txt": ""}, name="other")) == {}


def test_all_that_it_says(make: Make) -> None:
    config = """
    name: "net" platform: "onnxruntime_onnx" max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] },
            { name: "t" data_type: TYPE_STRING dims: [ 1 ] reshape: { shape: [ ] } optional: true }]
    output { name: "y" data_type: TYPE_INT64 dims: 1 }
    parameters { key: "a" value: { string_value: "b" } }
    """
    model = read_triton(make({"config.pbtxt": config, "3/model.onnx": "", "12/model.onnx": ""}))
    assert model is not None
    assert (model.backend, model.framework, model.version) == ("onnxruntime", "onnx", "12")
    assert model.inputs == (
        TensorSpec("x", "FP32", (3, -1)),
        TensorSpec("t", "BYTES", (1,), optional=True, reshape=()),
    )
    assert model.outputs == (TensorSpec("y", "INT64", (1,)),)
    assert model.parameters == {"a": "b"}
    assert model.max_batch_size == 8


@pytest.mark.parametrize(
    ("policy", "version"),
    [
        ("", "10"),
        ("version_policy: { all {} }", "10"),
        ("version_policy: { latest { num_versions: 2 } }", "10"),
        ("version_policy: { specific { versions: [ 1, 2 ] } }", "2"),
    ],
)
def test_the_highest_version_that_is_allowed(make: Make, policy: str, version: str) -> None:
    files = {f"{number}/model.py": "" for number in (1, 2, 10)}
    model = read_triton(make({"config.pbtxt": PYTHON + policy, **files, "old/model.py": ""}))
    assert model is not None
    assert model.version == version


@pytest.mark.parametrize(
    ("config", "file", "framework"),
    [
        ('backend: "pytorch"', "model.pt", "pytorch"),
        ('platform: "pytorch_libtorch"', "model.pt", "pytorch"),
        ('platform: "tensorflow_savedmodel"', "model.savedmodel/saved_model.pb", "tensorflow"),
        ('backend: "onnxruntime"', "model.onnx/model.onnx", "onnx"),
        ('backend: "onnxruntime" default_model_filename: "net.onnx"', "net.onnx", "onnx"),
        ("", "model.onnx", "onnx"),
        ('backend: "fil"', "xgboost.model", "xgboost"),
        (FIL % "xgboost_json", "xgboost.json", "xgboost"),
        (FIL % "xgboost_ubj", "xgboost.ubj", "xgboost"),
        (FIL % "lightgbm", "model.txt", "lightgbm"),
    ],
)
def test_backends_and_their_files(make: Make, config: str, file: str, framework: str) -> None:
    plan = inspect_model(
        make({"net/config.pbtxt": config, f"net/1/{file}": "12"}), HandlerOptions()
    )
    assert plan.interface is Interface.TRITON
    assert plan.framework == plan.loader == framework
    assert plan.artifact == f"net/1/{file}"
    assert plan.script is None
    assert plan.weight_bytes == 2


def test_a_python_models_framework_is_what_it_imports(make: Make) -> None:
    code = "import numpy, torch\nclass TritonPythonModel: pass"
    model_dir = make({"net/config.pbtxt": PYTHON, "net/1/model.py": code})
    plan = inspect_model(model_dir, HandlerOptions())
    assert plan.framework == "pytorch"
    assert plan.script == str(model_dir / "net/1/model.py")
    assert plan.code_dirs[:2] == (str(model_dir / "net/1"), str(model_dir / "net"))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('platform: "ensemble"', "'ensemble' are not served. Do its steps in one"),
        ("ensemble_scheduling { step [] }", "Do its steps in one model"),
        ('platform: "tensorrt_plan"', "the ONNX or TorchScript file"),
        ('backend: "tensorrt"', "the ONNX or TorchScript file"),
        ('platform: "tensorflow_graphdef"', "Save the graph as a SavedModel"),
        ('backend: "dali"', "the preprocessing in a model of the python backend"),
        ('backend: "vllm"', "Served are python, onnxruntime"),
        (PYTHON + "sequence_batching { }", "send the state with each request"),
        (PYTHON + "model_transaction_policy { decoupled: true }", "Decoupled models"),
        (FIL % "treelite_checkpoint", "Served are xgboost, "),
        ('backend: "onnxruntime"', "1/model.onnx is not there"),
        (PYTHON + 'default_model_filename: "../../x.py"', "leads out of"),
        (PYTHON + "version_policy { specific { versions: 7 } }", "the versions 7, but there are 1"),
        (PYTHON + "max_batch_size: -1", "max_batch_size in config.pbtxt must be a whole number"),
        (PYTHON + "input { dims: 1 }", "an input without a name"),
        (PYTHON + 'input { name: "x" data_type: TYPE_BF16 }', 'has the data_type "TYPE_BF16"'),
        (PYTHON + 'input { name: "x" data_type: TYPE_FP32 dims: 1.5 }', "must be whole numbers"),
        (PYTHON + 'input { name: "x" data_type: TYPE_FP32 dims: -2 }', "must be whole numbers"),
        (PYTHON + "name: 3", "name in config.pbtxt must be text, not 3"),
        ("name = 3", "not protobuf's text format: line 1"),
        (
            PYTHON + 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "e.tar.gz" } }',
            "List its packages in requirements.txt",
        ),
    ],
)
def test_what_cannot_be_served_says_what_to_do(make: Make, config: str, told: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        read_triton(make({"config.pbtxt": config, "1/model.py": ""}))
    assert told.replace("'", '"') in caught.value.message.replace("'", '"')
    assert caught.value.status == 400


def test_a_version_may_link_to_a_file_elsewhere_in_the_archive(make: Make) -> None:
    model_dir = make({"config.pbtxt": PYTHON, "shared/code.py": "", "1/empty": ""})
    (model_dir / "1/model.py").symlink_to("../shared/code.py")
    model = read_triton(model_dir)
    assert model is not None
    assert model.file == model_dir / "1/model.py"


def test_several_models_in_one_archive_are_refused(make: Make) -> None:
    files = {f"{name}/{file}": PYTHON for name in "ab" for file in ("config.pbtxt", "1/model.py")}
    with pytest.raises(ModelLoadError, match="several models of Triton \\(a, b\\)"):
        read_triton(make(files))


def test_a_config_without_versions_or_a_backend(make: Make) -> None:
    with pytest.raises(ModelLoadError, match="put the model's file into 1/"):
        read_triton(make({"config.pbtxt": PYTHON}, name="a"))
    with pytest.raises(ModelLoadError, match="names no backend"):
        read_triton(make({"config.pbtxt": "", "1/x": ""}, name="b"))


def test_an_environment_gives_way_to_requirements(make: Make) -> None:
    config = PYTHON + 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "e" } }'
    files = {"m/config.pbtxt": config, "m/1/model.py": "", "requirements.txt": "six"}
    plan = inspect_model(make(files), HandlerOptions())
    assert plan.requirements is not None


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("", {}),
        ("instance_group [ { kind: KIND_CPU } ]", {"device": "cpu"}),
        (
            "instance_group [ { count: 2 kind: KIND_GPU }, { count: 1 kind: KIND_CPU } ]",
            {"min_workers": 3, "max_workers": 3, "device": "auto"},
        ),
        ("max_batch_size: 8", {}),
        ("dynamic_batching { }", {}),
        (
            "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1500 }",
            {"batch_size": 8, "max_batch_delay_ms": 1.5},
        ),
        (
            "max_batch_size: 9999 dynamic_batching { preferred_batch_size: [ 4 ] }",
            {"batch_size": 128, "max_batch_delay_ms": 0.0},
        ),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "4" } }',
            {"threads": 4},
        ),
        ("instance_group [ { count: 99999 } ]", {}),
    ],
)
def test_settings(make: Make, config: str, settings: dict[str, object]) -> None:
    model_dir = make({"config.pbtxt": PYTHON + config, "1/model.py": ""})
    assert triton_settings(model_dir) == settings


def test_its_own_file_comes_before_tritons(make: Make) -> None:
    config = PYTHON + "max_batch_size: 4 instance_group { count: 2 } dynamic_batching {}"
    files = {"config.pbtxt": config, "1/model.py": ""}
    model_dir = make({**files, "modelyard.toml": "max_workers = 1"})
    found = read_settings(model_dir, None, ModelSettings())
    assert (found.min_workers, found.max_workers, found.batch_size) == (1, 1, 4)
