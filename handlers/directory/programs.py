"""Which code in a model directory serves it, and what kind of code that is. Nothing of it is run.

First match wins:

1. ``MAR-INF/MANIFEST.json`` names a handler: the archive says so itself. A container's own handler
   service, there or in 2, counts as none. (Where it names none, models of Triton come before the
   rest: ``handlers.directory.triton``.)
2. SAGEMAKER_HANDLER is set: it takes the place of the container's handler service, and under a
   handler service of its own a container never looks for ``inference.py``.
3. The script (SAGEMAKER_PROGRAM, else ``inference.py``) in ``code/``, in the root, or in the
   directory shared by all models; the archive's own copy comes before the shared one. It has the
   SageMaker functions, or else it is a handler itself.
4. None: the framework whose artifact lies in the root loads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.directory.artifacts import Contents
from handlers.directory.imports import defined_names, imported_modules
from handlers.directory.manifest import MANIFEST, entry
from handlers.errors import ModelLoadError
from handlers.interfaces.sagemaker_functions import ARGUMENTS
from handlers.interfaces.torchserve import OWN_HANDLERS, OWN_PACKAGE
from handlers.types import HandlerOptions, Interface

DEFAULT_PROGRAM = "inference.py"
DEFAULT_FUNCTION = "handle"

MAX_SCRIPTS = 20  # looked into for an error

# Handlers of the containers that an archive was made for: what they do is done here anyway.
CONTAINERS_OWN = re.compile(r"sagemaker_(\w+_container|(huggingface_)?inference(_toolkit)?)\b.*")

# What TorchServe's archiver writes and multi-model-server's does not.
OF_TORCHSERVE = frozenset({"serializedFile", "modelFile", "requirementsFile", "configFile"})

# Packages with the classes that a handler is derived from.
HANDLER_PACKAGES = frozenset(
    {
        *("mms", "ts", "sagemaker_inference", "sagemaker_huggingface_inference_toolkit"),
        *("sagemaker_pytorch_serving_container", "sagemaker_mxnet_serving_container"),
    }
)


@dataclass(frozen=True, slots=True)
class Code:
    """The code that was found: what it is, where, and under which handler name."""

    interface: Interface
    script: Path | None = None
    handler: str | None = None


def find_code(root: Contents, manifest: dict[str, Any] | None, options: HandlerOptions) -> Code:
    """The code that serves a model. Raises ``ModelLoadError`` for a handler that is not there."""
    named = entry(manifest, "handler")
    if named is not None and not _is_containers_own(root, named, options):
        return _handler(root, named, f"{MANIFEST} names", manifest or {}, options)
    if options.handler and not _is_containers_own(root, options.handler, options):
        return _handler(root, options.handler, "SAGEMAKER_HANDLER is", {}, options)
    script = _first_file(_directories(root, options), program_name(options))
    if script is not None:
        return _script(script)
    model_file = entry(manifest, "modelFile") or "model.py"
    return Code(Interface.DEFAULT, _first_file([root.path / "code", root.path], model_file))


def likely_handlers(root: Contents) -> list[str]:
    """Files that look like a handler which nothing has named."""
    code = root.path / "code"
    beside = sorted(code.glob("*.py")) if code.is_dir() else []
    scripts = [*(root.path / name for name in root.files if name.endswith(".py")), *beside]
    return [
        str(script.relative_to(root.path))
        for script in scripts[:MAX_SCRIPTS]
        if DEFAULT_FUNCTION in (defined_names(script) or ())
        or not imported_modules(script).isdisjoint(HANDLER_PACKAGES)
    ]


def program_name(options: HandlerOptions) -> str:
    """The file name of the script with the SageMaker functions."""
    program = options.program or DEFAULT_PROGRAM
    return program if program.endswith(".py") else program + ".py"


def library_environment(options: HandlerOptions) -> dict[str, str]:
    """What sagemaker_inference and its kin read for themselves, of settings given otherwise."""
    return {
        "SAGEMAKER_PROGRAM": options.program or DEFAULT_PROGRAM,
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": options.default_accept,
    }


def _directories(root: Contents, options: HandlerOptions) -> list[Path]:
    return [root.path / "code", root.path, Path(options.shared_code_dir)]


def _handler(
    root: Contents, handler: str, said: str, manifest: Mapping[str, Any], options: HandlerOptions
) -> Code:
    """``module[:function]`` or ``/path/file.py[:function]``, as multi-model-server reads it."""
    module, _, function = handler.partition(":")
    module = module.removesuffix(".py")
    script = _script_of(root, module, options)
    if script is None and module in OWN_HANDLERS:
        return Code(Interface.TORCHSERVE, None, f"{OWN_PACKAGE}.{module}:{DEFAULT_FUNCTION}")
    if script is None and not _installed_module(module):
        raise ModelLoadError(
            f"{said} the handler {handler!r}, but {_relative(module)}.py is neither in {root.path} "
            f"nor in {root.path / 'code'}. Put it there, or correct the name (module:function).",
            status=400,
        )
    name = Path(module).name if "/" in module else module
    imports = imported_modules(script) if script is not None else set()
    interface = Interface.CUSTOM_SERVICE
    if "ts" in imports or ("mms" not in imports and _of_torchserve(manifest)):
        interface = Interface.TORCHSERVE
    return Code(interface, script, f"{name}:{function or DEFAULT_FUNCTION}")


def _of_torchserve(manifest: Mapping[str, Any]) -> bool:
    model = manifest.get("model", {})
    return "archiverVersion" in manifest or not OF_TORCHSERVE.isdisjoint(model)


def _script(script: Path) -> Code:
    """A script with SageMaker's functions, or with a handler where it has none of them."""
    names = defined_names(script)
    if names is None or not names.isdisjoint(ARGUMENTS):
        return Code(Interface.SAGEMAKER, script)
    imports = imported_modules(script)
    if DEFAULT_FUNCTION not in names and imports.isdisjoint(HANDLER_PACKAGES):
        return Code(Interface.SAGEMAKER, script)
    interface = Interface.TORCHSERVE if "ts" in imports else Interface.CUSTOM_SERVICE
    return Code(interface, script, f"{script.stem}:{DEFAULT_FUNCTION}")


def _is_containers_own(root: Contents, handler: str, options: HandlerOptions) -> bool:
    """Whether it is a container's, and neither a file of the model's nor installed here."""
    module = handler.partition(":")[0].removesuffix(".py")
    if CONTAINERS_OWN.fullmatch(module) is None or _installed_module(module):
        return False
    return _script_of(root, module, options) is None


def _script_of(root: Contents, module: str, options: HandlerOptions) -> Path | None:
    """The file that a handler's module is."""
    directories = [root.path, root.path / "code", Path(options.shared_code_dir)]
    relative = _relative(module)
    found = _first_file(directories, relative + ".py")
    return found or _first_file(directories, relative + "/__init__.py")


def _relative(module: str) -> str:
    """A module's path without its ending; a path stays one."""
    return module if "/" in module else module.replace(".", "/")


def _installed_module(module: str) -> bool:
    """Whether a handler that is no file of the model is a module of the container."""
    top = module.partition(".")[0]
    if top == "__main__":  # that is the server
        return False
    try:
        return top.isidentifier() and find_spec(top) is not None
    except ValueError:  # loaded by hand, without a spec
        return False


def _first_file(directories: list[Path], name: str) -> Path | None:
    return next((d / name for d in directories if (d / name).is_file()), None)
