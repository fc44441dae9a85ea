"""Maps PyTorch weights instead of reading them. For the model_fn of a model's author, too:

    from handlers.weights import build_module, load_weights

    def model_fn(model_dir):
        return build_module(Net, load_weights(f"{model_dir}/model.safetensors"))

A mapped file is shared by every copy of the model and read as it is needed: 400 MB are usable after
60 ms instead of a second. That holds only while nobody copies, so the module is built without
storage (on the "meta" device) and takes the mapped tensors for its own.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Under which key training scripts put the weights when they save more than those.
WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_weights(path: str | PathLike[str], device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a saved state dict, mapped where possible.

    Raises ValueError when the file is damaged or holds something else, such as a whole pickled
    module.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path, device)
    return _state_dict(path, device)


def _safetensors(path: Path, device: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path, device)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or incomplete ({error})") from error
    return tensors


def _state_dict(path: Path, device: str) -> dict[str, Tensor]:
    import pickle

    import torch

    zipped = zipfile.is_zipfile(path)
    if not zipped and not _is_pickle(path):
        raise ValueError(f"{path.name} is damaged or incomplete, or not a file of torch.save")
    try:
        # Files of before torch 1.6 are no zip archives and cannot be mapped.
        saved = torch.load(path, map_location=device, mmap=zipped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than weights, which would run code to be read. Save "
            "model.state_dict(), or torch.jit.script(model), or load it in a model_fn of your own"
        ) from error
    for key in WRAPPERS:
        if isinstance(saved, dict) and isinstance(saved.get(key), dict):
            saved = saved[key]
    if not isinstance(saved, dict) or not all(isinstance(t, torch.Tensor) for t in saved.values()):
        raise ValueError(f"{path.name} is no state dict; save model.state_dict()")
    return saved


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def build_module(
    build: Callable[[], Module], weights: dict[str, Tensor], device: str = "cpu"
) -> Module:
    """The module that ``build()`` makes, with these weights as its own, in evaluation mode.

    ``build`` runs without allocating anything where it can. If it computes with values while it
    builds, or leaves tensors that are not among the weights, it runs again for real, on the device
    that the weights are on.
    """
    import torch

    module = _built_on_meta(build)
    if module is None or any(tensor.is_meta for tensor in _tensors_beyond(module, weights)):
        with torch.device(device):
            module = build()
    module.load_state_dict(weights, assign=True)
    return module.eval()


def _built_on_meta(build: Callable[[], Module]) -> Module | None:
    import torch

    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError):  # it reads values, which meta tensors lack
        return None


def _tensors_beyond(module: Module, weights: Iterable[str]) -> Iterator[Tensor]:
    """The tensors of a module that its weights will not replace."""
    import torch

    known = set(weights)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name not in known:
            yield tensor
    for part in module.modules():
        yield from (item for item in _values(vars(part)) if isinstance(item, torch.Tensor))


def _values(attributes: dict[str, Any]) -> Iterator[Any]:
    """Plain attributes of a module, and what lies in lists, tuples and dicts among them."""
    for name, value in attributes.items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        if isinstance(value, list | tuple):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value


def is_mappable(path: Path) -> bool:
    """Whether ``load_weights`` maps a file, told by its name and what lies in the zip."""
    if path.suffix.lower() == ".safetensors":
        return True
    is_zip = path.suffix.lower() in (".pt", ".pth", ".bin") and zipfile.is_zipfile(path)
    return is_zip and not is_torchscript(path)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, told by what lies in the zip; torch is not asked."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        inner = {name.partition("/")[2] for name in archive.namelist()}
    return "constants.pkl" in inner and any(name.startswith("code/") for name in inner)
