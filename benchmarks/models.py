"""The model directories that the servers load, and the request that each model answers.

Laid out as the platform unpacks an archive: weights at the top, the author's script in ``code/``.
Must not import torch (see ``weights.py``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

SCRIPTS = Path(__file__).parent / "inference"
JSON = "application/json"
BYTES = "application/octet-stream"
NPY = "application/x-npy"
SCRIPT = "code/inference.py"
MAKE_WEIGHTS_SECONDS = 300


@dataclass(frozen=True)
class Model:
    """A loadable directory and one request that it answers with 200."""

    name: str
    directory: Path
    body: bytes
    content_type: str


class ModelStore:
    """Makes every model below ``root``; both servers are given the same paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._weights = root / "weights"
        self._weights.mkdir()
        self._write_weights("basic")
        self.echo = self._make("echo", {SCRIPT: "echo.py"}, b"x" * 100, BYTES)
        self.echo_1mib = Model("echo", self.echo.directory, b"x" * (1 << 20), BYTES)
        self.slow = self._make("slow", {SCRIPT: "slow.py"}, b"x" * 100, BYTES)
        self.stream = self._make("stream", {SCRIPT: "stream.py"}, b"{}", JSON)
        self.iris = self._scripted("iris", "model.joblib", b"[[5.1, 3.5, 1.4, 0.2]]", JSON)
        self.mlp = self._scripted("mlp", "model.pt", json.dumps([picture()]).encode(), JSON)
        values = json.dumps([[0.5] * 2048]).encode()
        self.large = self._scripted("large", "model.safetensors", values, JSON)

    def tiny(self, number: int) -> Model:
        """The tiny torch model with that number; each has a directory of its own."""
        files = {SCRIPT: "tiny.py", "model.pt": "tiny.pt"}
        return self._make(f"tiny-{number:03}", files, b"[[0.1, 0.2, 0.3, 0.4]]", JSON)

    @cached_property
    def of_formats(self) -> dict[str, Model]:
        """Tiny models by what their weights are kept in."""
        row = b"[[0.1, 0.2, 0.3, 0.4]]"
        safe = {SCRIPT: "tiny_safe.py", "model.safetensors": "tiny.safetensors"}
        return {
            "torch, TorchScript": self._make("traced", {"model.pt": "tiny_traced.pt"}, row, JSON),
            "torch, `model.pt`": self.tiny(0),
            "torch, safetensors": self._make("safe", safe, row, JSON),
            "scikit-learn": self._make("joblib", {"model.joblib": "iris.joblib"}, row, JSON),
        }

    def ballast(self, number: int, size: int) -> Model:
        """A model in plain Python that holds so many bytes and answers with what it was sent."""
        model = self._make(f"ballast-{number:04}", {SCRIPT: "ballast.py"}, b"x" * 100, BYTES)
        weights = model.directory / "weights.bin"
        if not weights.exists():
            weights.write_bytes(os.urandom(size))
        return model

    @cached_property
    def mlp_json(self) -> Model:
        """The network of ``mlp`` with its class and no other code; asked in JSON."""
        files = {"model.pt": "mlp_model.pt", "code/model.py": "mlp_model.py"}
        return self._make("mlp-json", files, self.mlp.body, JSON)

    @cached_property
    def mlp_npy(self) -> Model:
        """The same, asked in NPY, one row."""
        return Model("mlp-npy", self.mlp_json.directory, self.pictures(1), NPY)

    @cached_property
    def mlp_service(self) -> Model:
        """The same in a custom service that takes lists, asked in NPY."""
        files = {
            "model.pt": "mlp.pt",
            "mlp_service.py": "mlp_service.py",
            "MAR-INF/MANIFEST.json": "mlp_service.json",
        }
        return self._make("mlp-service", files, self.pictures(1), NPY)

    @cached_property
    def pickled(self) -> Model:
        """400 MB in a pickle, which has to be read: a nearest-neighbours classifier."""
        self._write_weights("pickled")
        row = json.dumps([[0.5] * 500]).encode()
        return self._make("pickled", {"model.pkl": "pickled.pkl"}, row, JSON)

    @cached_property
    def forest(self) -> Model:
        """A random forest, without code, that takes 5 MB in an archive."""
        self._write_weights("forest")
        row = json.dumps([[0.5] * 8]).encode()
        return self._make("forest", {"model.joblib": "forest.joblib"}, row, JSON)

    @cached_property
    def of_frameworks(self) -> dict[str, Model]:
        """A tiny model of each framework that is installed, by the framework's name."""
        directory = self.root / "frameworks"
        _run("benchmarks.framework_models", str(directory))
        asked = json.loads((directory / "requests.json").read_text())
        return {
            name: Model(f"framework-{name}", directory / name, body.encode(), JSON)
            for name, body in asked.items()
        }

    def pictures(self, rows: int) -> bytes:
        """A body in NPY for the network of ``mlp``."""
        return (self._weights / f"pictures-{rows}.npy").read_bytes()

    def needing(self, package: str, wheel: Path) -> Model:
        """The tiny torch model with a script that imports a package, and its wheel beside it."""
        model = self.variant(self.tiny(0), f"tiny-{package}")
        code = model.directory / "code"
        script = code / "inference.py"
        text = f"import {package}\n{script.read_text()}"
        script.unlink()  # it is a link
        script.write_text(text)
        (code / "requirements.txt").write_text(f"{package}\n")
        (code / "wheels").mkdir()
        shutil.copy(wheel, code / "wheels")
        return model

    def variant(
        self, model: Model, name: str, settings: str = "", *, own_files: bool = False
    ) -> Model:
        """The same model by another name, with settings of its own (the text of modelyard.toml).

        Its files are links, so that mappings of weights are shared, or with ``own_files`` copies.
        """
        directory = self.root / name
        if not directory.exists():
            copy = shutil.copy if own_files else os.link
            shutil.copytree(model.directory, directory, copy_function=copy)
            if settings:
                (directory / "modelyard.toml").write_text(settings)
        return replace(model, name=name, directory=directory)

    def _scripted(self, name: str, weights: str, body: bytes, content_type: str) -> Model:
        files = {SCRIPT: f"{name}.py", weights: f"{name}{Path(weights).suffix}"}
        return self._make(name, files, body, content_type)

    def _make(self, name: str, files: Mapping[str, str], body: bytes, content_type: str) -> Model:
        """``files``: where a file goes, and which one of the scripts or of the weights it is."""
        directory = self.root / name
        for place, source in () if directory.exists() else files.items():
            path = directory / place
            path.parent.mkdir(parents=True, exist_ok=True)
            script = SCRIPTS / source
            shutil.copy(script if script.exists() else self._weights / source, path)
        return Model(name, directory, body, content_type)

    def _write_weights(self, which: str) -> None:
        _run("benchmarks.weights", str(self._weights), which)


def _run(module: str, *arguments: str) -> None:
    """Run a program of ours, which may import what this process must not."""
    subprocess.run(
        [sys.executable, "-m", module, *arguments], check=True, timeout=MAKE_WEIGHTS_SECONDS
    )
    os.sync()  # pages that wait to be written would count as memory of who maps them


def picture() -> list[list[list[float]]]:
    """One row for the network of ``mlp``."""
    return [[[0.25] * 16 for _ in range(16)] for _ in range(3)]
