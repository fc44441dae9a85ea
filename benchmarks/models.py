"""The model directories both servers load, and the request that each model answers.

Laid out as the platform unpacks an archive: weights at the top, the author's script in ``code/``.
Must not import torch (see ``weights.py``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "inference"
JSON = "application/json"
BYTES = "application/octet-stream"
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
        subprocess.run(
            [sys.executable, "-m", "benchmarks.weights", str(self._weights)],
            check=True,
            timeout=MAKE_WEIGHTS_SECONDS,
        )
        self.echo = self._make("echo", "echo", None, b"x" * 100, BYTES)
        self.echo_1mib = Model("echo", self.echo.directory, b"x" * (1 << 20), BYTES)
        self.slow = self._make("slow", "slow", None, b"x" * 100, BYTES)
        self.iris = self._make("iris", "iris", "model.joblib", b"[[5.1, 3.5, 1.4, 0.2]]", JSON)
        self.mlp = self._make("mlp", "mlp", "model.pt", _json([_picture()]), JSON)
        self.large = self._make("large", "large", "model.safetensors", _json([[0.5] * 2048]), JSON)

    def tiny(self, number: int) -> Model:
        """The tiny torch model with that number; each has a directory of its own."""
        body = b"[[0.1, 0.2, 0.3, 0.4]]"
        return self._make(f"tiny-{number:03}", "tiny", "model.pt", body, JSON)

    def _make(
        self, name: str, script: str, weights: str | None, body: bytes, content_type: str
    ) -> Model:
        directory = self.root / name
        if not directory.exists():
            (directory / "code").mkdir(parents=True)
            shutil.copy(SCRIPTS / f"{script}.py", directory / "code" / "inference.py")
            if weights is not None:
                made = (self._weights / script).with_suffix(Path(weights).suffix)
                shutil.copy(made, directory / weights)
        return Model(name, directory, body, content_type)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _picture() -> list[list[list[float]]]:
    return [[[0.25] * 16 for _ in range(16)] for _ in range(3)]
