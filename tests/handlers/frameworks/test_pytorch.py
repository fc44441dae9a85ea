from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from handlers.directory.artifacts import Contents
from handlers.errors import HandlerError, InvalidInput, ModelLoadError
from handlers.frameworks import pytorch
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Request, Resources, Service

Make = Callable[..., Path]
Load = Callable[..., Service]
Ask = Callable[..., Request]

# Deprecated, but much of what people have saved.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

STATE = {"linear.weight": torch.ones(1, 2), "linear.bias": torch.zeros(1)}

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, data):
        return self.dropout(self.linear(data))
"""


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def script() -> bytes:
    trace: Callable[..., Any] = torch.jit.trace
    net = torch.nn.Linear(2, 1)
    net.load_state_dict({"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    stream = io.BytesIO()
    save_script: Callable[..., None] = torch.jit.save
    save_script(trace(net, torch.ones(1, 2)), stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["model.pt", "net.pth"])
def test_torchscript_needs_no_code(load: Load, ask: Ask, name: str) -> None:
    assert load({name: script()}).invoke(ask("[[1, 2], [3, 4]]")).body == b"[[3.0], [7.0]]"


@pytest.mark.parametrize("class_file", ["model.py", "code/model.py"])
@pytest.mark.parametrize(
    "weights", [{"model.pt": saved(STATE)}, {"model.safetensors": save(STATE)}]
)
def test_weights_need_the_class_in_model_py(
    load: Load, ask: Ask, class_file: str, weights: dict[str, bytes]
) -> None:
    service = load({**weights, class_file: NET})
    assert service.invoke(ask("1,2\n", "text/csv")).body == b"[[3.0]]"


def test_the_manifest_may_name_the_class_file(load: Load, ask: Ask) -> None:
    manifest = json.dumps({"model": {"modelFile": "net.py", "serializedFile": "w.pt"}})
    files = {"MAR-INF/MANIFEST.json": manifest, "net.py": NET, "w.pt": saved(STATE)}
    assert load(files).invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


def test_a_script_without_model_fn_uses_the_same_loader(load: Load, ask: Ask) -> None:
    files = {
        "code/inference.py": "import torch\ndef output_fn(p, accept): return f'{p.item():.2f}'\n",
        "code/model.py": NET,
        "model.pt": saved(STATE),
    }
    assert load(files).invoke(ask("[[1, 2]]")).body == b"3.00"


def test_a_model_fn_of_the_authors_own_may_map_weights(load: Load, ask: Ask) -> None:
    files = {
        "code/inference.py": "from handlers.weights import build_module, load_weights\n"
        "from model import Net\n"
        "def model_fn(d): return build_module(Net, load_weights(f'{d}/model.safetensors'))\n",
        "code/model.py": NET,
        "model.safetensors": save(STATE),
    }
    assert load(files).invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"model.pt": saved(STATE)}, "Put model.py with the nn.Module class into code/"),
        ({"model.pt": saved(STATE), "model.py": ""}, "defines none"),
        (
            {"model.pt": saved(STATE), "model.py": NET + "class Other(Net): pass"},
            "defines Net, Other",
        ),
        (
            {"model.pt": saved({"linear.weight": STATE["linear.weight"]}), "model.py": NET},
            r"model.pt does not fit Net: .*\n.*Missing key.*linear.bias",
        ),
        (
            {"model.pt": saved({**STATE, "more": torch.ones(1)}), "model.py": NET},
            "Unexpected key",
        ),
        (
            {
                "model.pt": saved({**STATE, "linear.weight": torch.ones(1, 3)}),
                "model.py": NET,
            },
            "size mismatch",
        ),
        (
            {"model.pt": saved(STATE), "model.py": NET.replace("(self):", "(self, size):")},
            "Net cannot be made without arguments .*'size'",
        ),
        ({"model.pt": saved({"epoch": 3}), "model.py": NET}, "no state dict"),
        ({"model.pt": saved(torch.nn.Linear(1, 1)), "model.py": NET}, "holds more than weights"),
        ({"model.pt": b"garbage", "model.py": NET}, "model.pt is damaged or incomplete"),
        ({"model.pt": saved(STATE)[:-20], "model.py": NET}, "model.pt is damaged or incomplete"),
        ({"model.safetensors": save(STATE)[:-1], "model.py": NET}, "is damaged or incomplete"),
        ({"model.pt2": b"garbage"}, "cannot read model.pt2, which is damaged"),
        (
            {"model.safetensors": b"garbage", "model.py": NET},
            "model.safetensors is damaged or incomplete",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(
    load: Load, files: dict[str, str | bytes], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load(files)


def test_json_and_csv_become_float32_and_npy_keeps_its_type() -> None:
    assert pytorch.input_fn(b"[[1, 2]]", "").dtype is torch.float32
    assert pytorch.input_fn(b"1,2\n", "text/csv; charset=utf-8").dtype is torch.float32
    stream = io.BytesIO()
    np.save(stream, np.array([1, 2], dtype=np.int64))
    assert pytorch.input_fn(stream.getvalue(), "application/x-npy").dtype is torch.int64


def test_a_type_of_numpy_that_torch_lacks_is_400() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array(["a"]))
    with pytest.raises(HandlerError) as caught:
        pytorch.input_fn(stream.getvalue(), "application/x-npy")
    assert caught.value.status == 400


def test_input_that_is_not_numeric_stays_as_it_is() -> None:
    assert pytorch.input_fn(b'{"text": "hello"}', "") == {"text": "hello"}


def test_prediction_keeps_no_gradients() -> None:
    result = pytorch.predict_fn(torch.ones(1, 2), torch.nn.Linear(2, 1))
    assert not result.requires_grad


def test_a_model_that_is_no_module_predicts_by_its_own_means() -> None:
    assert pytorch.predict_fn([1], len) == 1


def test_an_error_of_the_model_is_a_failed_prediction(load: Load, ask: Ask, tmp_path: Path) -> None:
    net = NET.replace("self.dropout(", "self.nothing(")
    files = {"model.py": net, "model.pt": saved(STATE)}
    with pytest.raises(HandlerError, match=r"AttributeError: .* 'nothing'") as caught:
        load(files).invoke(ask("[[1, 2]]"))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[[1, 2, 3]]", r"take an input of shape \[1, 3\] and type float32: mat1 and mat2 shapes"),
        ("[[1, 2], [1]]", "Row 2 has 1 values, row 1 has 2"),
        ('[[1, "a"]]', "Row 1 has 'a', which is not a number"),
        ('{"instances": [[1, 2], [1, "b"]]}', "Row 2 has 'b', which is not a number"),
    ],
)
def test_what_a_module_does_not_take_is_told_in_a_line(
    load: Load, ask: Ask, body: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        load({"model.pt": script()}).invoke(ask(body))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_weights_of_a_wrapped_module_are_taken_by_their_names(
    load: Load, ask: Ask, prefix: str
) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    service = load({"model.py": NET, "model.pth": saved(state)})
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


EMBEDDING = """
import torch
class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.EmbeddingBag(3, 1)
    def forward(self, numbers):
        return self.words(numbers)
"""


def test_whole_numbers_in_json_are_integers_for_an_embedding(load: Load, ask: Ask) -> None:
    state = {"words.weight": torch.tensor([[1.0], [2.0], [4.0]])}
    service = load({"model.py": EMBEDDING, "model.pth": saved(state)})
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0]]"
    with pytest.raises(InvalidInput, match="NPY of int64"):
        service.invoke(ask("[[1, 1.5]]"))
    with pytest.raises(InvalidInput, match="range"):
        service.invoke(ask("[[1, 9]]"))


def exported(version: int = 0) -> bytes:
    """A program of torch.export, as if it had been written so many versions later."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.9)).eval()
    net.load_state_dict({"0.weight": torch.ones(1, 2), "0.bias": torch.zeros(1)})
    stream, later = io.BytesIO(), io.BytesIO()
    rows = torch.export.Dim("rows")
    torch.export.save(
        torch.export.export(net, (torch.ones(2, 2),), dynamic_shapes=({0: rows},)), stream
    )
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(later, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(content)
                program["schema_version"]["major"] += version
                content = json.dumps(program).encode()
            new.writestr(name, content)
    return later.getvalue()


def test_an_exported_program_needs_no_code(load: Load, ask: Ask) -> None:
    service = load({"model.pt2": exported()})
    assert service.invoke(ask("[[1, 2], [3, 4]]")).body == b"[[3.0], [7.0]]"
    with pytest.raises(HandlerError, match="Guard failed"):
        service.invoke(ask("[[1, 2, 3]]"))


def test_a_program_of_another_version_says_which_one_it_was(load: Load) -> None:
    version = re.escape(torch.__version__)
    reason = f"cannot read model.pt2, which was exported by PyTorch {version}: .*Export it again"
    with pytest.raises(ModelLoadError, match=reason):
        load({"model.pt2": exported(version=1)})


def test_a_program_is_moved_to_where_the_model_runs(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(exported())
    module = pytorch._exported(tmp_path / "model.pt2", "meta")  # a device that everybody has
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    assert pytorch.predict_fn(torch.ones(1, 2), module).device.type == "meta"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "net.bin"])
def test_state_dicts_may_be_called_bin(load: Load, ask: Ask, name: str) -> None:
    files = {name: saved(STATE), "model.py": NET, "readme.txt": ""}
    assert load(files).invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


def test_other_files_called_bin_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"words")
    assert pytorch.find_artifact(Contents(tmp_path, ("model.bin",))) is None
    several = ("optimizer.bin", "pytorch_model.bin", "training_args.bin")
    assert pytorch.find_artifact(Contents(tmp_path, several)) == "pytorch_model.bin"


def test_a_model_gets_the_threads_it_asked_for(make: Make, options: HandlerOptions) -> None:
    plan = inspect_model(make({"model.pt": script()}), options)
    before = torch.get_num_threads()
    try:
        load_service(plan, model_name="m", options=options, resources=Resources(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


FORMS: list[Callable[[], dict[str, str | bytes]]] = [
    lambda: {"model.pt": script()},
    lambda: {"model.pt": saved(STATE), "model.py": NET},
    lambda: {"model.safetensors": save(STATE), "model.py": NET},
    lambda: {"model.pt2": exported()},
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("files", FORMS)
def test_a_gpu_that_is_not_there_is_told(
    make: Make, options: HandlerOptions, files: Callable[[], dict[str, str | bytes]]
) -> None:
    plan = inspect_model(make(files()), options)
    with pytest.raises(ModelLoadError, match=r"to run on GPU 1, but PyTorch .* sees none"):
        load_service(plan, model_name="m", options=options, resources=Resources(gpu_id=1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("files", FORMS)
def test_a_model_computes_on_its_gpu(
    make: Make, options: HandlerOptions, ask: Ask, files: Callable[[], dict[str, str | bytes]]
) -> None:
    plan = inspect_model(make(files()), options)
    model = pytorch.load(plan, Resources(gpu_id=0))
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    service = load_service(plan, model_name="m", options=options, resources=Resources(gpu_id=0))
    assert service.invoke(ask("[[1, 2]]")).body == b"[[3.0]]"


def test_named_inputs_are_the_arguments_of_forward(load: Load, ask: Ask) -> None:
    net = "import torch\nclass Net(torch.nn.Module):\n"
    net += "    def forward(self, first, second): return first - second\n"
    service = load({"model.pt": saved({}), "model.py": net})
    body = '{"inputs": {"second": [1], "first": [3]}}'
    assert service.invoke(ask(body)).body == b'{"outputs": [2.0]}'
