"""Models of Triton: ``config.pbtxt`` with numbered versions beside it, read and never run.

The folder is the model's directory itself or, as the Triton container of SageMaker has it, the one
folder in it. Of the versions that the policy allows the highest is served. What Triton can do and
this server cannot is refused with what to do instead.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.directory.setting_values import problem_of, read_text, refused, shown
from handlers.directory.text_protobuf import Message, parse
from handlers.types import MAX_BATCH

log = logging.getLogger("modelyard.handlers")

CONFIG = "config.pbtxt"
MAX_FOLDERS = 64  # looked into; an archive of more is no model of Triton's

PYTHON, ONNX, PYTORCH, TENSORFLOW, FIL = "python", "onnxruntime", "pytorch", "tensorflow", "fil"

# The file in a version's folder, unless ``default_model_filename`` says otherwise.
_FILES = {
    PYTHON: "model.py",
    ONNX: "model.onnx",
    PYTORCH: "model.pt",
    TENSORFLOW: "model.savedmodel",
    "tensorrt": "model.plan",
    "tensorflow_graphdef": "model.graphdef",
}
_FIL_FILES = {
    "xgboost": "xgboost.model",
    "xgboost_json": "xgboost.json",
    "xgboost_ubj": "xgboost.ubj",
    "lightgbm": "model.txt",
}
_FRAMEWORKS = {ONNX: "onnx", PYTORCH: "pytorch", TENSORFLOW: "tensorflow"}

# What ``platform`` said before there was ``backend``.
_PLATFORMS = {
    "onnxruntime_onnx": ONNX,
    "pytorch_libtorch": PYTORCH,
    "tensorflow_savedmodel": TENSORFLOW,
    "tensorrt_plan": "tensorrt",
}
_INSTEAD = {
    "ensemble": "Do its steps in one model of the python backend, or let the client call them",
    "tensorrt": "Serve the ONNX or TorchScript file that the plan was built from",
    "tensorflow_graphdef": "Save the graph as a SavedModel: tensorflow_savedmodel is served",
    "dali": "Do the preprocessing in a model of the python backend",
    "openvino": "Serve the ONNX file that it was made from, with the backend onnxruntime",
}
_ELSE_INSTEAD = f"Served are {', '.join((PYTHON, ONNX, PYTORCH, TENSORFLOW, FIL))}"

DATATYPES = {
    **{f"TYPE_{name}": name for name in ("BOOL", "FP16", "FP32", "FP64")},
    **{f"TYPE_INT{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"TYPE_UINT{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "TYPE_STRING": "BYTES",
}

# Names of messages that hold lists, and those that hold values by key.
_REPEATED = frozenset(
    {
        *("batch_input", "batch_output", "control", "control_input", "dims", "false_true"),
        *("fp32_false_true", "gpus", "input", "instance_group", "int32_false_true", "model_warmup"),
        *("output", "preferred_batch_size", "profile", "secondary_devices", "shape"),
        *("state", "step", "target_name", "versions", "initial_state", "resources", "source_input"),
    }
)
_BY_KEY = frozenset(
    {"cc_model_filenames", "input_map", "inputs", "metric_tags", "output_map", "parameters"}
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: ``dims`` are without the batch, -1 is any; ``datatype`` as on the wire.

    ``reshape`` is the shape that the model itself has, where it differs.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False
    reshape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class TritonModel:
    """What a ``config.pbtxt`` says. ``file`` is loaded, ``config`` is all of it as JSON has it.

    ``max_batch_size`` is in rows; 0 means that shapes have no axis for a batch.
    """

    folder: Path
    name: str
    backend: str
    framework: str | None
    version: str
    file: Path
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config: dict[str, Any]

    @property
    def parameters(self) -> dict[str, str]:
        """The ``string_value`` of each parameter."""
        return parameters_of(self.config)


def find_folder(model_dir: Path) -> Path | None:
    """The folder with the ``config.pbtxt``, or None. Raises ``ModelLoadError`` for several."""
    if (model_dir / CONFIG).is_file():
        return model_dir
    found = sorted(_folders(model_dir))
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:10])
        raise refused(
            f"The archive holds several models of Triton ({names}), as for an ensemble. "
            f"{_INSTEAD['ensemble']}; make an archive of each model"
        )
    return found[0] if found else None


def _folders(model_dir: Path) -> Iterator[Path]:
    if not model_dir.is_dir():
        return
    looked = 0
    with os.scandir(model_dir) as entries:
        for item in entries:
            if item.name.startswith(".") or not item.is_dir():
                continue
            looked += 1
            if looked > MAX_FOLDERS:
                return
            if Path(item.path, CONFIG).is_file():
                yield Path(item.path)


def read_triton(model_dir: Path) -> TritonModel | None:
    """The model that a directory holds for Triton, or None where there is no ``config.pbtxt``.

    Raises ``ModelLoadError`` with status 400 for what is broken or cannot be served here.
    """
    folder = find_folder(model_dir)
    if folder is None:
        return None
    config = _read_config(folder)
    version = _version(folder, config)
    backend = _backend(folder / version, config)
    _refuse_others(config, backend)
    file, framework = _file(folder / version, config, backend)
    if backend == PYTHON:
        _check_environment(model_dir, config)
    return TritonModel(
        folder=folder,
        name=_text(config, "name") or folder.name,
        backend=backend,
        framework=framework,
        version=version,
        file=file,
        max_batch_size=_whole(config, "max_batch_size", 0),
        inputs=tensor_specs(config, "input"),
        outputs=tensor_specs(config, "output"),
        config=config,
    )


def triton_settings(model_dir: Path) -> dict[str, Any]:
    """Our settings by name, as ``config.pbtxt`` has them; what cannot be is logged and left out."""
    folder = find_folder(model_dir)
    if folder is None:
        return {}
    config = _read_config(folder)
    found = {**_workers(config), **_batches(config), **_threads(config)}
    for name in list(found):
        problem = problem_of(name, found[name])
        if problem is not None:
            log.warning("passed over in %s: %s", CONFIG, problem)
            del found[name]
    return found


def _workers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Instances are processes here, each on the device that the server chooses."""
    groups = [group for group in config.get("instance_group", ()) if isinstance(group, dict)]
    count = sum(_whole(group, "count", 1) for group in groups)
    kinds = {group.get("kind", "KIND_AUTO") for group in groups}
    found: dict[str, Any] = {}
    if any("count" in group for group in groups):
        found = {"min_workers": count, "max_workers": count}
    if kinds == {"KIND_CPU"}:
        found["device"] = "cpu"
    elif kinds & {"KIND_GPU", "KIND_MODEL"}:
        found["device"] = "auto"
    return found


def _batches(config: Mapping[str, Any]) -> dict[str, Any]:
    batching = config.get("dynamic_batching")
    rows = _whole(config, "max_batch_size", 0)
    if not isinstance(batching, dict) or rows < 2:
        return {}
    delay = _whole(batching, "max_queue_delay_microseconds", 0)
    return {"batch_size": min(rows, MAX_BATCH), "max_batch_delay_ms": delay / 1000}


def _threads(config: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {name.lower(): value for name, value in parameters_of(config).items()}
    count = parameters.get("intra_op_thread_count", "")
    return {"threads": int(count)} if count.isdecimal() and int(count[:9]) > 0 else {}


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The ``string_value`` of each parameter in a configuration as JSON has it."""
    found = config.get("parameters", {})
    return {
        name: str(value.get("string_value", ""))
        for name, value in found.items()
        if isinstance(value, dict)
    }


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        message = parse(read_text(folder / CONFIG, CONFIG))
    except ValueError as error:
        raise refused(f"{CONFIG} is not protobuf's text format: {error}") from error
    return _as_json(message)


def _as_json(message: Message) -> dict[str, Any]:
    """A message as protobuf's JSON has it, with the names as they stand in the file."""
    found: dict[str, Any] = {}
    for name, values in message.items():
        plain = [_as_json(value) if isinstance(value, dict) else value for value in values]
        if name in _REPEATED:
            found[name] = plain
        elif name in _BY_KEY and all(isinstance(value, dict) for value in plain):
            found[name] = {str(each.get("key", "")): each.get("value", {}) for each in plain}
        else:
            found[name] = plain[-1]
    return found


def _version(folder: Path, config: Mapping[str, Any]) -> str:
    """The highest version that the policy allows."""
    there = [path.name for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    if not there:
        raise refused(f"{folder.name} has {CONFIG} but no version: put the model's file into 1/")
    policy = config.get("version_policy", {})
    specific = policy.get("specific") if isinstance(policy, dict) else None
    if isinstance(specific, dict):
        wanted = {str(number) for number in specific.get("versions", ())}
        there, all_there = [name for name in there if name in wanted], there
        if not there:
            raise refused(
                f"version_policy in {CONFIG} names the versions {', '.join(sorted(wanted))}, but "
                f"there are {', '.join(sorted(all_there))}"
            )
    return max(there, key=int)


def _backend(version: Path, config: Mapping[str, Any]) -> str:
    """What ``backend`` or ``platform`` says, else what the version's files are for."""
    named = _text(config, "backend") or _text(config, "platform")
    if named:
        return _PLATFORMS.get(named, named)
    found = [backend for backend, file in _FILES.items() if (version / file).exists()]
    if "ensemble_scheduling" in config:
        return "ensemble"
    if len(found) != 1:
        raise refused(f'{CONFIG} names no backend. Add one, such as backend: "{PYTHON}"')
    return found[0]


def _refuse_others(config: Mapping[str, Any], backend: str) -> None:
    """Raise for what Triton does and this server does not."""
    if backend not in (PYTHON, ONNX, PYTORCH, TENSORFLOW, FIL):
        advice = _INSTEAD.get(backend, _ELSE_INSTEAD)
        raise refused(f"Models of Triton's backend {shown(backend)} are not served. {advice}")
    if "sequence_batching" in config:
        raise refused(
            "sequence_batching is not served: requests of a sequence would need the same process. "
            "Let the client send the state with each request"
        )
    policy = config.get("model_transaction_policy")
    if isinstance(policy, dict) and policy.get("decoupled") is True:
        raise refused(
            "Decoupled models are not served. Return one response for each request, or stream "
            "from code/inference.py"
        )


def _file(version: Path, config: Mapping[str, Any], backend: str) -> tuple[Path, str | None]:
    """What is loaded, and the framework whose loader does it (None: the model's own code)."""
    usual, framework = _FILES.get(backend, ""), _FRAMEWORKS.get(backend)
    if backend == FIL:
        kind = parameters_of(config).get("model_type") or "xgboost"
        if kind not in _FIL_FILES:
            raise refused(
                f"The model_type {shown(kind)} of the backend fil is not served. Served are "
                f"{', '.join(_FIL_FILES)}: save the model again as one of them"
            )
        usual, framework = _FIL_FILES[kind], kind.partition("_")[0]
    name = _text(config, "default_model_filename") or usual
    file = version / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise refused(f"default_model_filename in {CONFIG} leads out of the version's folder")
    if not file.exists():
        raise refused(
            f"{version.name}/{name} is not there, which {CONFIG} says the model is. Put it there, "
            "or name the right file in default_model_filename"
        )
    if backend == ONNX and file.is_dir():  # with its weights in files of their own
        file = file / usual
    if backend == TENSORFLOW:
        file = file / "saved_model.pb"
    if not file.is_file():
        raise refused(f"{version.name}/{name} is not what the backend {backend} loads")
    return file, framework


def _check_environment(model_dir: Path, config: Mapping[str, Any]) -> None:
    """Raise for a packed environment, unless the archive has a requirements.txt in its place."""
    if not parameters_of(config).get("EXECUTION_ENV_PATH"):
        return
    places = (model_dir / "requirements.txt", model_dir / "code/requirements.txt")
    if not any(place.is_file() for place in places):
        raise refused(
            "EXECUTION_ENV_PATH names an environment packed for Triton's own Python, which cannot "
            "be used here. List its packages in requirements.txt, at the root of the archive"
        )


def tensor_specs(config: Mapping[str, Any], side: str) -> tuple[TensorSpec, ...]:
    """The inputs or outputs of a configuration; ``side`` is ``input`` or ``output``."""
    return tuple(_spec(tensor, side) for tensor in config.get(side, ()))


def _spec(tensor: Any, side: str) -> TensorSpec:
    if not isinstance(tensor, dict) or not _text(tensor, "name"):
        raise refused(f"{CONFIG} has an {side} without a name")
    name, kind = tensor["name"], tensor.get("data_type", "")
    if kind not in DATATYPES:
        raise refused(
            f"The {side} {shown(name)} in {CONFIG} has the data_type {shown(kind)}; served are "
            f"{', '.join(DATATYPES)}"
        )
    reshape = tensor.get("reshape")
    return TensorSpec(
        name=name,
        datatype=DATATYPES[kind],
        dims=_dims(tensor.get("dims", ()), name),
        optional=tensor.get("optional") is True,
        reshape=_dims(reshape.get("shape", ()), name) if isinstance(reshape, dict) else None,
    )


def _dims(values: Sequence[Any], name: str) -> tuple[int, ...]:
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in values)
    if not whole or any(each < -1 for each in values):
        raise refused(f"The dims of {shown(name)} in {CONFIG} must be whole numbers, or -1 for any")
    return tuple(values)


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name, "")
    if not isinstance(value, str):
        raise refused(f"{name} in {CONFIG} must be text, not {shown(value)}")
    return value


def _whole(message: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = message.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refused(f"{name} in {CONFIG} must be a whole number, not {shown(value)}")
    return value
