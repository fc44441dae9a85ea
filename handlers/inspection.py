"""Looks at a model directory and says how it will be loaded, without running anything in it.

The controller calls this for every load, for archives it knows nothing about, so it looks at the
root, ``code/`` and ``MAR-INF/`` only, and never imports a model's code or a framework.

Which code serves a model, first match wins:

1. ``MAR-INF/MANIFEST.json`` names a handler: the archive says so itself.
2. SAGEMAKER_HANDLER is set: it takes the place of the container's handler service, and under a
   handler service of its own a container never looks for ``inference.py``.
3. The script (SAGEMAKER_PROGRAM, else ``inference.py``) in ``code/``, in the root, or in the
   directory shared by all models; the archive's own copy comes before the shared one.
4. None: the framework whose artifact lies in the root loads it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.artifacts import Contents, candidates, holds_weights
from handlers.errors import ModelLoadError
from handlers.frameworks import FRAMEWORKS, Framework, for_artifact
from handlers.imports import imported_modules
from handlers.manifest import MANIFEST, entry, read_manifest
from handlers.types import HandlerOptions, Interface, ModelPlan

DEFAULT_PROGRAM = "inference.py"
DEFAULT_FUNCTION = "handle"
MAX_LISTED = 20  # names in an error message


@dataclass(frozen=True, slots=True)
class _Code:
    """The code that was found: what it is, where, and under which handler name."""

    interface: Interface
    script: Path | None = None
    handler: str | None = None


def inspect_model(model_dir: Path, options: HandlerOptions) -> ModelPlan:
    """Plan the load of a directory. Raises ``ModelLoadError`` when nothing in it can be served."""
    root, weight_bytes = _read_root(model_dir)
    manifest = read_manifest(model_dir)
    code = _find_code(root, manifest, options)
    artifact = entry(manifest, "serializedFile")
    framework, loader, artifact = _choose(root, code, artifact)
    if code.interface is Interface.DEFAULT:
        _check_default(root, framework, artifact, options)
    return ModelPlan(
        model_dir=str(model_dir),
        framework=framework.NAME,
        interface=code.interface,
        script=str(code.script) if code.script else None,
        handler=code.handler,
        artifact=artifact,
        loader=loader.NAME if loader else None,
        code_dirs=_code_dirs(model_dir, code.script, options),
        weight_bytes=weight_bytes,
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
            if item.is_dir():
                directories.append(item.name)
            elif item.is_file():  # follows links, and skips those that lead nowhere
                files.append(item.name)
                weight_bytes += item.stat().st_size if holds_weights(item.name) else 0
    return Contents(model_dir, tuple(sorted(files)), tuple(sorted(directories))), weight_bytes


def _find_code(root: Contents, manifest: dict[str, Any] | None, options: HandlerOptions) -> _Code:
    handler = entry(manifest, "handler")
    if handler is not None:
        return _custom_service(root, handler, f"{MANIFEST} names", options)
    if options.handler:
        return _custom_service(root, options.handler, "SAGEMAKER_HANDLER is", options)
    script = _find_script(root.path, options)
    if script is not None:
        return _Code(Interface.SAGEMAKER, script)
    model_file = entry(manifest, "modelFile") or "model.py"
    return _Code(Interface.DEFAULT, _first_file([root.path / "code", root.path], model_file))


def _custom_service(root: Contents, handler: str, said: str, options: HandlerOptions) -> _Code:
    """``module[:function]`` or ``/path/file.py[:function]``, as multi-model-server reads it."""
    module, _, function = handler.partition(":")
    module = module.removesuffix(".py")
    directories = [root.path, root.path / "code", Path(options.shared_code_dir)]
    relative = module if "/" in module else module.replace(".", "/")
    script = _first_file(directories, relative + ".py")
    script = script or _first_file(directories, relative + "/__init__.py")
    if script is None and not _installed_module(module):
        raise ModelLoadError(
            f"{said} the handler {handler!r}, but {relative}.py is neither in {root.path} nor in "
            f"{root.path / 'code'}. Put it there, or correct the name (module:function).",
            status=400,
        )
    name = Path(module).name if "/" in module else module
    return _Code(Interface.CUSTOM_SERVICE, script, f"{name}:{function or DEFAULT_FUNCTION}")


def _installed_module(module: str) -> bool:
    """Whether a handler that is no file of the model is a module of the container."""
    top = module.partition(".")[0]
    if top == "__main__":  # that is the server
        return False
    try:
        return top.isidentifier() and find_spec(top) is not None
    except ValueError:  # loaded by hand, without a spec
        return False


def program_name(options: HandlerOptions) -> str:
    """The file name of the script with the SageMaker functions."""
    program = options.program or DEFAULT_PROGRAM
    return program if program.endswith(".py") else program + ".py"


def _find_script(model_dir: Path, options: HandlerOptions) -> Path | None:
    directories = [model_dir / "code", model_dir, Path(options.shared_code_dir)]
    return _first_file(directories, program_name(options))


def _first_file(directories: list[Path], name: str) -> Path | None:
    return next((d / name for d in directories if (d / name).is_file()), None)


def _choose(
    root: Contents, code: _Code, named: str | None
) -> tuple[Framework, Framework | None, str | None]:
    """The framework to fork from; the one whose loader would read the artifact; the artifact.

    What the code imports decides; code that imports no known framework goes by the artifact.
    """
    contents = root if named is None else root.only(named)
    found = for_artifact(contents)
    wanted = None
    if code.script is not None and code.interface is not Interface.DEFAULT:
        imports = imported_modules(code.script)
        wanted = next(
            (f for f in FRAMEWORKS.values() if imports & set(f.MODULES) and f.installed()), None
        )
    own = wanted.find_artifact(contents) if wanted is not None else None
    if wanted is not None and own is not None:
        return wanted, wanted, own
    if found is None:
        return wanted or FRAMEWORKS["python"], None, named
    framework, artifact = found
    if wanted is not None:
        return wanted, framework, artifact
    if code.interface is not Interface.DEFAULT and not framework.installed():
        return FRAMEWORKS["python"], framework, artifact
    return framework, framework, artifact


def _check_default(
    root: Contents, framework: Framework, artifact: str | None, options: HandlerOptions
) -> None:
    """Raise unless the framework can load the artifact by itself."""
    if artifact is None or framework.NAME == "python":
        raise ModelLoadError(_nothing_servable(root, options), status=400)
    if not (root.path / artifact).is_file():
        raise ModelLoadError(
            f"{MANIFEST} names the file {artifact!r}, which is not in the archive.", status=400
        )
    if not framework.installed():
        raise ModelLoadError(
            f"{artifact} needs {framework.NAME}, which is not installed in this container. "
            f"Use an image that has it, or install modelyard[{framework.NAME}]."
        )


def _nothing_servable(root: Contents, options: HandlerOptions) -> str:
    extensions = [extension for f in FRAMEWORKS.values() for extension in f.EXTENSIONS]
    several = candidates(root.files, extensions)
    if len(several) > 1:
        return (
            f"{_listing(several)} could each be the model. Name the right one model"
            f"{Path(several[0]).suffix}, or put a model_fn into code/{program_name(options)}."
        )
    names = [*(f"{name}/" for name in root.directories), *root.files]
    found = f"it holds {_listing(names)}" if names else "it is empty"
    hint = ""
    if len(names) == 1 and root.directories:
        hint = f" Everything lies under {names[0]}: make the archive of what is inside it."
    return (
        f"Nothing to serve in {root.path}: {found}.{hint} A model is code/{program_name(options)} "
        f"(or the same file in the root), a {MANIFEST} that names a handler, or a file ending in "
        f"{', '.join(extensions)}."
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
