"""Which packages a model asks for beyond what the server has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from handlers.directory.manifest import MANIFEST, entry
from handlers.errors import ModelLoadError
from handlers.frameworks import Framework
from handlers.types import HandlerOptions, Requirements

FILE = "requirements.txt"
WHEELS = "wheels"
MAX_FILE_BYTES = 1 << 20

# Packages that are not called like the module they hold, by module.
PACKAGES = {"sklearn": "scikit-learn", "torch": "torch", "cv2": "opencv-python"}


def requirements_file(
    model_dir: Path, manifest: dict[str, Any] | None, script: Path | None, options: HandlerOptions
) -> Path | None:
    """The requirements.txt of a model: what its manifest names, else in ``code/`` or the root.

    Without one of its own, that of the shared directory where its script lies there. Raises
    ``ModelLoadError`` when the manifest names one that is not there.
    """
    if not options.model_requirements:
        return None
    named = entry(manifest, "requirementsFile")
    places = [model_dir / named] if named else [model_dir / "code" / FILE, model_dir / FILE]
    shared = Path(options.shared_code_dir)
    if named is None and script is not None and script.is_relative_to(shared):
        places.append(shared / FILE)
    found = next((path for path in places if path.is_file()), None)
    if named is not None and found is None:
        raise ModelLoadError(
            f"{MANIFEST} names the requirementsFile {named!r}, which is not in the archive.",
            status=400,
        )
    return found if found is not None and _lines(found) else None


def requirements_of(framework: Framework, file: Path | None) -> Requirements | None:
    """What the environment of a model needs; None when the server's own will do."""
    pins = () if framework.installed() else _pins_beside(framework, file)
    if not pins and file is None:
        return None
    wheels = file.parent / WHEELS if file is not None else None
    return Requirements(
        pins=pins,
        file=str(file) if file is not None else None,
        wheels=str(wheels) if wheels is not None and wheels.is_dir() else None,
    )


def can_have(framework: Framework, file: Path | None) -> bool:
    """Whether a framework is installed, or will be in the model's environment."""
    if framework.installed() or framework.PINS:
        return True
    asked = _packages(file)
    wanted = {PACKAGES.get(module, module) for module in framework.MODULES[:1]}
    return bool(asked & {_normal(name) for name in wanted})


def _pins_beside(framework: Framework, file: Path | None) -> tuple[str, ...]:
    """A framework's pins, but for packages that the model's file names itself.

    A framework has builds of other names, such as tensorflow-gpu, that exclude each other.
    """
    asked = _packages(file)
    build = re.compile(rf"{framework.NAME}(-(cpu|gpu|intel|mkl|native|cu\d+\w*))?")
    own_build = any(build.fullmatch(name) for name in asked)
    return tuple(
        pin
        for pin in framework.PINS
        if (name := _package(pin)) not in asked and not (own_build and build.fullmatch(name))
    )


def _packages(file: Path | None) -> set[str]:
    return {_package(line) for line in _lines(file)} if file is not None else set()


def _lines(file: Path) -> list[str]:
    """The lines that ask for something. A file that cannot be read is left to pip to refuse."""
    try:
        text = file.read_bytes()[:MAX_FILE_BYTES].decode("utf-8", "replace")
    except OSError:
        return ["unreadable"]
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _package(line: str) -> str:
    """The package that a line of requirements names."""
    return _normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
