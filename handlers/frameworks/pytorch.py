"""PyTorch: TorchScript, exported programs, and weights with the class that they belong to."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from handlers.data import tables
from handlers.data.codecs import STR_TYPES
from handlers.data.media_types import JSON, JSON_LINES, ND_JSON, parse
from handlers.directory.artifacts import Contents, pick
from handlers.directory.pretrained import weights_of
from handlers.errors import InvalidInput, ModelLoadError, PredictionFailed
from handlers.frameworks import python
from handlers.interfaces.user_code import classes_of, import_file
from handlers.interfaces.user_errors import is_out_of_memory
from handlers.optional_packages import usable
from handlers.types import Interface, ModelPlan, Resources
from handlers.weights import build_module, is_torchscript, load_weights

NAME = "pytorch"
MODULES: tuple[str, ...] = ("torch", "torchvision", "torchaudio")
EXTENSIONS: tuple[str, ...] = (".safetensors", ".pt", ".pth", ".pt2", ".bin")
PINS: tuple[str, ...] = ()
resident_bytes = 230 << 20

# Written by people or in JSON, which has one kind of number: models want float32.
FLOAT32_TYPES = STR_TYPES | {JSON_LINES, ND_JSON}

EXPORTED = ".pt2"

# Anything may be called .bin: this is what state dicts are called, and what else they start with.
BIN = ".bin"
STATE_DICT_BIN = "pytorch_model.bin"
ZIP_START = b"PK"


# Before the names of a wrapped module's weights, the outermost first.
WRAPPED = ("_orig_mod.", "module.", "_orig_mod.")

# How PyTorch says that a module takes other shapes or types.
_OTHER_INPUT = re.compile(
    r"shape|size|dimension|scalar type|dtype|[Ee]xpected|out of range|valid range|must match"
)
_INTEGERS = " Send integers as NPY of int64."
_WANTS_INTEGERS = re.compile(r"scalar types: Long|indices.*(Float|Double)Tensor")


def installed() -> bool:
    """Whether torch can be imported."""
    return find_spec("torch") is not None


def find_artifact(contents: Contents) -> str | None:
    """The TorchScript archive, exported program, safetensors file or state dict that it is."""
    if weights_of(contents) is not None:
        return None  # these belong to transformers, also where a script imports torch alone
    found = pick(contents.files, [extension for extension in EXTENSIONS if extension != BIN])
    if found is not None or STATE_DICT_BIN in contents.files:
        return found or STATE_DICT_BIN
    found = pick(contents.files, (BIN,))
    return found if found and contents.start_of(found, 2) == ZIP_START else None


def preload() -> None:
    """Save, map and run a tiny module, on one thread and on the CPU."""
    python.preload()
    import torch

    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        torch.save(net.state_dict(), path)
        _warm_up(net, path)
        if usable("safetensors.torch"):
            from safetensors.torch import save_file

            path = path.with_suffix(".safetensors")
            save_file(net.state_dict(), path)
            _warm_up(net, path)
        _warm_up_script(net, path.with_suffix(".ts"))


def _warm_up_script(net: Any, path: Path) -> None:
    """Run a TorchScript module as often as its executor needs to make up its mind."""
    import torch

    script: Callable[..., Any] = torch.jit.script
    load_script: Callable[..., Any] = torch.jit.load
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # whoever has such models knows
        script(net).save(str(path))
        model = load_script(path, map_location="cpu").eval()
    for _ in range(3):
        output_fn(predict_fn(input_fn(b"[[1, 2]]", JSON), model), JSON, JSON)


def _warm_up(net: Any, path: Path) -> None:
    model = build_module(lambda: type(net)(*net.children()), load_weights(path))
    body, content_type = output_fn(predict_fn(input_fn(b"[[1, 2]]", JSON), model), JSON, JSON)
    assert body and content_type == JSON


def after_fork(threads: int) -> None:
    """Give torch this many threads, and fresh random state."""
    python.after_fork(threads)
    import torch

    torch.set_num_threads(threads)
    # Not torch.manual_seed: it visits every kind of device, which copies 2 MiB of shared pages.
    torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "big", signed=True))


def device_of(resources: Resources) -> str:
    """``cuda:N`` or ``cpu``. Raises ``ModelLoadError`` for a GPU that PyTorch does not see."""
    if resources.gpu_id is None:
        return "cpu"
    import torch

    seen = torch.cuda.device_count()
    if resources.gpu_id >= seen:
        raise ModelLoadError(
            f"The model is to run on GPU {resources.gpu_id}, but PyTorch {torch.__version__} sees "
            f"{seen or 'none'}. Use an image with a CUDA build of PyTorch, or the device cpu."
        )
    return f"cuda:{resources.gpu_id}"


def load(plan: ModelPlan, resources: Resources) -> Any:
    """The module, ready to predict. Weights are mapped; TorchScript has to be read."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs PyTorch, which is missing.")
    import torch

    torch.set_num_threads(resources.threads)
    device = device_of(resources)
    load_script: Callable[..., Any] = torch.jit.load  # torch leaves it without types
    path = Path(plan.model_dir, plan.artifact or "")
    if path.suffix.lower() == EXPORTED:
        return _exported(path, device)
    if is_torchscript(path):
        return load_script(path, map_location=device).eval()
    try:
        weights = load_weights(path, device)
    except ValueError as error:
        raise ModelLoadError(f"{error}.") from error
    return _with_weights(_module_class(plan, path.name), weights, path.name, device)


def _exported(path: Path, device: str) -> Any:
    """The module of a program that torch.export saved. Programs name the device of each tensor."""
    import torch
    from torch.export.passes import move_to_device_pass

    try:
        program = torch.export.load(path)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelLoadError(
            f"PyTorch {torch.__version__} cannot read {path.name}, which {_exporter(path)}: "
            f"{error} Export it again with the version that serves it."
        ) from error
    devices = {tensor.device.type for tensor in program.state_dict.values()}
    if devices - {"cpu"} or device != "cpu":
        program = move_to_device_pass(program, device)
    return program.module()


def _exporter(path: Path) -> str:
    """Who wrote a .pt2, for the error that it cannot be read."""
    if not zipfile.is_zipfile(path):
        return "is damaged or no exported program"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            found = name.endswith(".json") and re.search(
                rb'"torch_version": ?"([^"]{1,40})"', archive.read(name)
            )
            if found:
                return f"was exported by PyTorch {found[1].decode(errors='replace')}"
    return "was exported by another version or by another tool"


def _with_weights(
    module_class: type[Any], weights: dict[str, Any], artifact: str, device: str
) -> Any:
    """The module with its weights; what does not fit is told with the names."""
    try:
        return _built(module_class, weights, device)
    except TypeError as error:
        raise ModelLoadError(
            f"{module_class.__name__} cannot be made without arguments ({error}). Give its "
            "__init__ defaults that fit the weights, or define a model_fn."
        ) from error
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        raise ModelLoadError(f"{artifact} does not fit {module_class.__name__}: {error}") from error


def _built(module_class: type[Any], weights: dict[str, Any], device: str) -> Any:
    """The module; weights of one that was wrapped while it was trained are taken by their names."""
    try:
        return build_module(module_class, weights, device)
    except RuntimeError:
        bare = _unwrapped(weights)
        if bare is None:
            raise
        with suppress(RuntimeError):
            return build_module(module_class, bare, device)
        raise


def _unwrapped(weights: dict[str, Any]) -> dict[str, Any] | None:
    """The weights without what DistributedDataParallel or torch.compile put before their names."""
    bare = weights
    for prefix in WRAPPED:
        if bare and all(name.startswith(prefix) for name in bare):
            bare = {name.removeprefix(prefix): weight for name, weight in bare.items()}
    return bare if bare is not weights else None


def _module_class(plan: ModelPlan, artifact: str) -> type[Any]:
    """The one nn.Module subclass of the model's model.py. Raises ``ModelLoadError``."""
    import torch

    file = _class_file(plan)
    if file is None:
        raise ModelLoadError(
            f"{artifact} holds weights but no model. Put model.py with the nn.Module class into "
            "code/, or define a model_fn, or save the model as TorchScript."
        )
    found = [c for c in classes_of(import_file(file)) if issubclass(c, torch.nn.Module)]
    if len(found) != 1:
        names = ", ".join(item.__name__ for item in found) or "none"
        raise ModelLoadError(
            f"{file.name} must define exactly one nn.Module class to go with {artifact}; it "
            f"defines {names}. Move helper classes into another file, or define a model_fn."
        )
    return found[0]


def _class_file(plan: ModelPlan) -> Path | None:
    if plan.interface is Interface.DEFAULT:
        return Path(plan.script) if plan.script else None
    files = [Path(folder, "model.py") for folder in plan.code_dirs]
    return next((file for file in files if file.is_file()), None)


def input_fn(body: bytes, content_type: str) -> Any:
    """A tensor where the body is numeric: float32 from JSON and CSV, NPY's own type from NPY."""
    written = parse(content_type or JSON).essence in FLOAT32_TYPES
    return python.input_fn(body, content_type, lambda data: _tensor(data, written))


def _tensor(data: Any, written: bool) -> Any:
    if not hasattr(data, "dtype"):
        return data
    import torch

    try:
        tensor = torch.from_numpy(data)
    except TypeError as error:
        raise InvalidInput(f"The body cannot be a tensor: {error}") from error
    return tensor.to(torch.float32) if written else tensor


def predict_fn(data: Any, model: Any) -> Any:
    """``model(data)`` without gradients, on the device the model is on.

    Tensors by name are the arguments of the same names.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        return python.predict_fn(data, model)
    weight = next(chain(model.parameters(), model.buffers()), None)
    device = torch.device("cpu") if weight is None else weight.device
    with torch.inference_mode(), _told_in_a_line(data):
        if isinstance(data, torch.Tensor):
            return model(_as_wanted(data, model).to(device))
        if _are_named(data, torch.Tensor):
            return model(**{name: value.to(device) for name, value in data.items()})
        return model(data)


def _as_wanted(data: Any, model: Any) -> Any:
    """Whole numbers as int64 for a module that begins with an embedding: JSON has no integers."""
    if (
        data.dtype.is_floating_point
        and _begins_with_embedding(model)
        and bool((data % 1 == 0).all())
    ):
        return data.long()
    return data


@lru_cache(maxsize=4)
def _begins_with_embedding(model: Any) -> bool:
    """Whether the first part that has weights of its own looks numbers up."""
    for part in model.modules():
        if next(part.parameters(recurse=False), None) is not None:
            kind = getattr(part, "original_name", type(part).__name__)
            return kind in ("Embedding", "EmbeddingBag")
    return False


@contextmanager
def _told_in_a_line(data: Any) -> Iterator[None]:
    """What a module says, less TorchScript's traceback: 400 where it is about the input."""
    try:
        yield
    except (RuntimeError, IndexError) as error:
        text = str(error).strip()
        if is_out_of_memory(error) or not text:
            raise
        tables.check_numbers(data)  # a list that is no tensor; some modules take such
        last = text.splitlines()[-1].removeprefix("RuntimeError: ")
        if not _OTHER_INPUT.search(last):
            if last == text:
                raise
            raise PredictionFailed(f"{type(error).__name__}: {last}") from error
        hint = _INTEGERS if _WANTS_INTEGERS.search(last) else ""
        raise InvalidInput(f"The model does not take {_shown(data)}: {last}.{hint}") from error


def _shown(data: Any) -> str:
    shape = getattr(data, "shape", None)
    if shape is None:
        return "this input"
    return f"an input of shape {list(shape)} and type {str(data.dtype).removeprefix('torch.')}"


def _are_named(data: Any, kind: type[Any]) -> bool:
    values = data.values() if isinstance(data, dict) else ()
    return bool(values) and all(isinstance(value, kind) for value in values)


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The prediction in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
