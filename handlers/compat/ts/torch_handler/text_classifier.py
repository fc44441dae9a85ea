"""TorchServe's handler for classifiers of texts that begin with an EmbeddingBag."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.text_handler import TextHandler
from ts.utils.util import map_class_to_label


class TextClassifier(TextHandler):
    """Probabilities by label. The model gets the numbers of words and pairs of words, and [0]."""

    ngrams = 2

    def preprocess(self, data: Any) -> Any:
        """The words of the one text, and those that follow each other, as numbers."""
        import torch

        row = data[0]
        text = row.get("data") or row.get("body") or ""
        text = bytes(text).decode() if isinstance(text, bytes | bytearray) else str(text)
        words = self._tokenize(self._cleaned(text))
        runs = [
            " ".join(words[start : start + length])
            for length in range(1, self.ngrams + 1)
            for start in range(len(words) - length + 1)
        ]
        return torch.as_tensor([self._number(run) for run in runs], device=self.device)

    def _cleaned(self, text: str) -> str:
        text = self._expand_contractions(self._remove_html_tags(text).lower())
        return self._remove_punctuation(self._remove_accented_characters(text))

    def _number(self, word: str) -> int:
        known: Any = self.source_vocab  # torchtext's knows what to do with other words
        if isinstance(known, dict) and word not in known:
            word = "<unk>"
            return int(known[word]) if word in known else 0
        return int(known[word])

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model gives for the numbers of one text, which starts at 0."""
        import torch

        return super().inference(data, torch.as_tensor([0], device=self.device))

    def postprocess(self, data: Any) -> Any:
        """Probabilities by label."""
        import torch

        probabilities = torch.nn.functional.softmax(data, dim=1)
        return map_class_to_label(probabilities.tolist(), self.mapping)
