"""Runs in the server: a multi-model-server custom service, as a class.

The server makes one instance per load, calls ``initialize`` once and ``handle`` for each request.
It imports this file by itself, so there is nothing in here of the server's or of this project's.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def trigrams(text: str) -> list[str]:
    """All runs of three characters, in lower case, with spaces around the words."""
    spaced = f" {' '.join(text.lower().split())} "
    return [spaced[start : start + 3] for start in range(len(spaced) - 2)]


class LanguageService:
    """Tells the language of a text."""

    def initialize(self, context: Any) -> None:
        """Load: the context says where the extracted archive lies."""
        path = Path(context.system_properties["model_dir"]) / "counts.json"
        self._counts: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, str]]:
        """Answer a batch: one element in, one element out."""
        return [{"language": self._language(bytes(row["body"]).decode())} for row in data]

    def _language(self, text: str) -> str:
        found = trigrams(text)
        return max(self._counts, key=lambda language: self._likelihood(found, language))

    def _likelihood(self, found: list[str], language: str) -> float:
        """Naive Bayes; one is added to each count, so that nothing is impossible."""
        counts = self._counts[language]
        total = sum(counts.values()) + len(counts)
        return sum(math.log((counts.get(trigram, 0) + 1) / total) for trigram in found)
