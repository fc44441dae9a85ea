"""A model for multi-model-server: ``service.py`` is the handler that ``MAR-INF`` names.

It tells languages by how often each has which three letters in a row, learned from the first three
articles of the Universal Declaration of Human Rights (``texts/``). It needs nothing but Python.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

from examples.languages_service.service import trigrams

HERE = Path(__file__).parent


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: the counts, the handler, the manifest."""
    counts = {path.stem: _count(path) for path in sorted((HERE / "texts").glob("*.txt"))}
    (model_dir / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    shutil.copy(HERE / "service.py", model_dir)
    shutil.copytree(HERE / "MAR-INF", model_dir / "MAR-INF")


def _count(path: Path) -> Counter[str]:
    return Counter(trigrams(path.read_text(encoding="utf-8")))
