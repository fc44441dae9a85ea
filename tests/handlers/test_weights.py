from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from handlers.weights import build_module, is_torchscript, load_weights

# Deprecated, but much of what people have saved.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

STATE = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}


class Net(nn.Linear):
    """Two numbers in, their sum out."""

    def __init__(self) -> None:
        super().__init__(2, 1)


class WithBuffer(Net):
    """Has a buffer that no state dict holds."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(3.0), persistent=False)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return super().forward(data) * self.scale


class WithAttribute(Net):
    """Has tensors that are no buffers at all."""

    def __init__(self) -> None:
        super().__init__()
        self.scales: list[torch.Tensor] = [torch.tensor(3.0)]

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return super().forward(data) * self.scales[0]


class ReadsValues(Net):
    """Computes with values while it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.linspace(0, 3, 2)[1].item()

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return super().forward(data) * self.scale


def mapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory belongs to a file."""
    address = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= address < end:
            return inode != "0"
    return False


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_weights_are_mapped_and_the_module_takes_them_as_they_are(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    save: Callable[[Any, Any], None] = save_file if name.endswith("safetensors") else torch.save
    save(STATE, path)
    weights = load_weights(str(path))
    module = build_module(Net, weights)
    assert module.get_parameter("weight").data_ptr() == weights["weight"].data_ptr()
    assert mapped(weights["weight"])
    assert not module.training
    assert module(torch.tensor([[1.0, 2.0]])).item() == 3


def test_a_file_of_an_old_torch_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_weights(tmp_path / "old.pt")["weight"].tolist() == [[1, 1]]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_opened_for_its_weights(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 3, key: STATE}, tmp_path / "model.pt")
    assert set(load_weights(tmp_path / "model.pt")) == set(STATE)


@pytest.mark.parametrize("saved", [Net(), [1, 2], {"epoch": 3}, torch.ones(1)])
def test_what_is_no_state_dict_is_refused_with_what_to_save(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"ave model\.state_dict\(\)"):
        load_weights(tmp_path / "model.pt")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Evil()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="would run code"):
        load_weights(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("build", [WithBuffer, WithAttribute, ReadsValues])
def test_what_the_weights_do_not_hold_is_built_for_real(build: type[nn.Module]) -> None:
    module = build_module(build, dict(STATE))
    assert module(torch.tensor([[1.0, 2.0]])).item() == 9


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="bias"):
        build_module(Net, {"weight": STATE["weight"]})


def test_a_torchscript_archive_is_told_from_weights_by_its_contents(tmp_path: Path) -> None:
    trace: Callable[..., Any] = torch.jit.trace
    trace(Net(), torch.ones(1, 2)).save(tmp_path / "script.pt")
    torch.save(STATE, tmp_path / "state.pt")
    (tmp_path / "not-a-zip.pt").write_bytes(pickle.dumps({}))
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a/constants.pkl", "")
    found = {path.name: is_torchscript(path) for path in tmp_path.iterdir()}
    assert found == {
        "script.pt": True,
        "state.pt": False,
        "not-a-zip.pt": False,
        "other.pt": False,
    }


@pytest.mark.parametrize("build", [Net, WithBuffer, ReadsValues])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_weights_and_module_are_on_the_device_they_are_asked_for(
    tmp_path: Path, name: str, build: type[nn.Module]
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    save: Callable[[Any, Any], None] = save_file if name.endswith("safetensors") else torch.save
    save(STATE, tmp_path / name)
    module = build_module(build, load_weights(tmp_path / name, device), device)
    tensors = [*module.parameters(), *module.buffers()]
    assert {tensor.device.type for tensor in tensors} == {device}


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("kept", [0, 5, -9])
def test_a_file_that_is_cut_short_is_told_from_one_that_holds_too_much(
    tmp_path: Path, name: str, kept: int
) -> None:
    save: Callable[[Any, Any], None] = save_file if name.endswith("safetensors") else torch.save
    path = tmp_path / name
    save(STATE, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{name} is damaged or incomplete"):
        load_weights(path)
