"""Looks at a model directory and says how it will be loaded, without running anything in it.

The controller calls this for every load, for archives it knows nothing about, so it looks at the
root, ``code/`` and ``MAR-INF/`` only, and never imports a model's code or a framework.

A ``config.pbtxt``, here or in the one folder of the archive, says that it is a model of Triton's.
Which code serves any other: ``handlers.directory.programs``. Without code, the framework whose
artifact lies in the root loads it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from handlers.directory.artifacts import Contents, bytes_below, holds_weights
from handlers.directory.imports import imported_modules
from handlers.directory.manifest import MANIFEST, entry, read_manifest
from handlers.directory.model_requirements import can_have, requirements_file, requirements_of
from handlers.directory.model_settings import read_settings
from handlers.directory.programs import Code, find_code, likely_handlers, program_name
from handlers.directory.triton import PYTHON, TritonModel, read_triton
from handlers.errors import ModelLoadError
from handlers.frameworks import FRAMEWORKS, Framework, claims, for_artifact, pytorch
from handlers.types import HandlerOptions, Interface, ModelPlan
from handlers.weights import is_mappable

# Models that are told by other things than a file's ending.
NAMED = (
    "config.json beside weights (transformers)",
    "saved_model.pb, or 1/saved_model.pb (TensorFlow)",
    "xgboost-model",
    "NAME-symbol.json with NAME-0000.params (MXNet)",
    "a LightGBM model in .txt",
)

MAX_LISTED = 20  # names in an error message

# What packages for handlers import in turn.
IMPLIED = {
    "sagemaker_huggingface_inference_toolkit": "transformers",
    "sagemaker_pytorch_serving_container": "torch",
    "sagemaker_mxnet_serving_container": "mxnet",
}


def inspect_model(model_dir: Path, options: HandlerOptions) -> ModelPlan:
    """Plan the load of a directory. Raises ``ModelLoadError`` when nothing in it can be served."""
    root, weight_bytes = _read_root(model_dir)
    manifest = read_manifest(model_dir)
    triton = read_triton(model_dir) if entry(manifest, "handler") is None else None
    if triton is not None:
        return _plan_triton(model_dir, triton, options)
    code = find_code(root, manifest, options)
    asked = requirements_file(model_dir, manifest, code.script, options)
    framework, loader, artifact = _choose(root, code, entry(manifest, "serializedFile"), asked)
    if code.interface is Interface.DEFAULT:
        _check_default(root, framework, artifact, asked, options)
    return ModelPlan(
        model_dir=str(model_dir),
        framework=framework.NAME,
        interface=code.interface,
        script=str(code.script) if code.script else None,
        handler=code.handler,
        artifact=artifact,
        loader=loader.NAME if loader else None,
        code_dirs=_code_dirs(model_dir, code.script, options),
        weight_bytes=weight_bytes + _uncounted_bytes(root, artifact),
        mapped_bytes=_mapped_bytes(model_dir, code.interface, framework.NAME, artifact),
        settings=read_settings(model_dir, manifest, options.defaults),
        requirements=requirements_of(framework, asked),
    )


def _plan_triton(model_dir: Path, triton: TritonModel, options: HandlerOptions) -> ModelPlan:
    """The plan of a model of Triton's, whose code, if any, is a ``TritonPythonModel``."""
    own_code = triton.backend == PYTHON
    script = triton.file if own_code else None
    asked = requirements_file(model_dir, None, script, options)
    wanted = _wanted(Code(Interface.TRITON, script), asked) or FRAMEWORKS["python"]
    framework = wanted if triton.framework is None else FRAMEWORKS[triton.framework]
    file = str(triton.file.relative_to(model_dir))
    if not can_have(framework, asked):
        raise _not_installed(file, framework)
    version = triton.folder / triton.version
    folders = (version, triton.folder, model_dir)
    return ModelPlan(
        model_dir=str(model_dir),
        framework=framework.NAME,
        interface=Interface.TRITON,
        script=str(script) if script is not None else None,
        handler=None,
        artifact=None if own_code else file,
        loader=None if own_code else framework.NAME,
        code_dirs=tuple(dict.fromkeys(str(folder) for folder in folders)),
        weight_bytes=bytes_below(version),
        settings=read_settings(model_dir, None, options.defaults),
        requirements=requirements_of(framework, asked),
    )


def _not_installed(artifact: str, framework: Framework) -> ModelLoadError:
    return ModelLoadError(
        f"{artifact} needs {framework.NAME}, which is not installed in this container. "
        f"Use an image that has it, or install modelyard[{framework.NAME}]."
    )


def _read_root(model_dir: Path) -> tuple[Contents, int]:
    """What lies there, and the size of the files that hold weights."""
    if not model_dir.is_dir():
        raise ModelLoadError(
            f"{model_dir} is not a directory. The url of a model is the directory its archive was "
            "extracted to.",
            status=400,
        )
    files, directories, weight_bytes = [], [], 0
    with os.scandir(model_dir) as entries:
        for item in entries:
            if not _is_text(item.name):
                continue  # its name could not be told to any other process
            with suppress(OSError):  # a link that leads back to itself
                if item.is_dir():
                    directories.append(item.name)
                elif item.is_file():  # follows links, and skips those that lead nowhere
                    files.append(item.name)
                    weight_bytes += item.stat().st_size if holds_weights(item.name) else 0
    return Contents(model_dir, tuple(sorted(files)), tuple(sorted(directories))), weight_bytes


def _is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; others come with surrogates in place of their bytes."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _mapped_bytes(
    model_dir: Path, interface: Interface, framework: str, artifact: str | None
) -> int:
    """The size of weights that a default loader maps: PyTorch's, unless they are TorchScript."""
    if interface is not Interface.DEFAULT or framework != pytorch.NAME or artifact is None:
        return 0
    path = model_dir / artifact
    return path.stat().st_size if is_mappable(path) else 0


def _uncounted_bytes(root: Contents, artifact: str | None) -> int:
    """What a load reads and ``_read_root`` has not counted.

    An artifact whose name does not say that it holds weights, such as a .json, and what lies in
    directories: those of a SavedModel, or the one that is the artifact.
    """
    if artifact is None:
        return 0
    path = root.path / artifact
    if artifact in root.files:
        own = 0 if holds_weights(artifact) else path.stat().st_size
        return own + (bytes_below(root.path / "variables") if path.suffix == ".pb" else 0)
    directory = Path(artifact) if path.is_dir() else Path(artifact).parent
    inside = directory.parts and not directory.is_absolute() and ".." not in directory.parts
    return bytes_below(root.path / directory) if inside else 0


def _choose(
    root: Contents, code: Code, named: str | None, asked: Path | None
) -> tuple[Framework, Framework | None, str | None]:
    """The framework to fork from; the one whose loader would read the artifact; the artifact.

    What the code imports decides; code that imports no known framework goes by the artifact.
    """
    contents = root if named is None else root.only(named)
    found = for_artifact(contents)
    wanted = _wanted(code, asked)
    own = wanted.find_artifact(contents) if wanted is not None else None
    if wanted is not None and own is not None:
        return wanted, wanted, own
    if found is None:
        return wanted or FRAMEWORKS["python"], None, named
    framework, artifact = found
    if wanted is not None:
        return wanted, framework, artifact
    if code.interface is not Interface.DEFAULT and not can_have(framework, asked):
        return FRAMEWORKS["python"], framework, artifact
    return framework, framework, artifact


def _wanted(code: Code, asked: Path | None) -> Framework | None:
    """The framework that the model's own code imports, if there can be one here.

    Of several, one that has to have an environment of its own: elsewhere its import would fail.
    """
    if code.interface is Interface.DEFAULT:
        return None
    imports = imported_modules(code.script) if code.script is not None else set()
    imports |= {IMPLIED[name] for name in imports & IMPLIED.keys()}
    if code.interface is Interface.TORCHSERVE:
        imports.add("torch")
    found = [f for f in FRAMEWORKS.values() if imports & set(f.MODULES) and can_have(f, asked)]
    apart = [f for f in found if f.PINS and not f.installed()]
    return next(iter(apart + found), None)


def _check_default(
    root: Contents,
    framework: Framework,
    artifact: str | None,
    asked: Path | None,
    options: HandlerOptions,
) -> None:
    """Raise unless the framework can load the artifact by itself."""
    if artifact is None or framework.NAME == "python":
        raise ModelLoadError(_nothing_servable(root, options), status=400)
    if not (root.path / artifact).exists():
        raise ModelLoadError(
            f"{MANIFEST} names the file {artifact!r}, which is not in the archive.", status=400
        )
    if not can_have(framework, asked):
        raise _not_installed(artifact, framework)


def _nothing_servable(root: Contents, options: HandlerOptions) -> str:
    extensions = [extension for f in FRAMEWORKS.values() for extension in f.EXTENSIONS]
    several = claims(root)
    if len(several) > 1:
        mixed = len({framework for framework, _ in several}) > 1
        told = [f"{file} ({framework})" if mixed else file for framework, file in several]
        return (
            f"{_listing(told)} could each be the model. Name the right one model"
            f"{Path(several[0][1]).suffix}, or put a model_fn into code/{program_name(options)}."
        )
    names = [*(f"{name}/" for name in root.directories), *root.files]
    found = f"it holds {_listing(names)}" if names else "it is empty"
    hint = ""
    if len(names) == 1 and root.directories:
        hint = f" Everything lies under {names[0]}: make the archive of what is inside it."
    handlers = likely_handlers(root)
    if handlers:
        hint = (
            f" {handlers[0]} looks like a handler: name it in {MANIFEST}, or for all models in "
            f"SAGEMAKER_HANDLER={handlers[0].removesuffix('.py').removeprefix('code/')}:handle."
        )
    return (
        f"Nothing to serve in {root.path}: {found}.{hint} A model is code/{program_name(options)} "
        f"(or the same file in the root), a {MANIFEST} that names a handler, or without code: "
        f"{', '.join(NAMED)}, or a file ending in {', '.join(dict.fromkeys(extensions))}."
    )


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _code_dirs(model_dir: Path, script: Path | None, options: HandlerOptions) -> tuple[str, ...]:
    """What the model's code may import from: beside the script first, the shared code last."""
    directories = [model_dir / "code", model_dir, Path(options.shared_code_dir)]
    if script is not None:
        directories.insert(0, script.parent)
    return tuple(dict.fromkeys(str(d) for d in directories if d.is_dir()))
