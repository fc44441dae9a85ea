"""The base of handlers whose requests are texts. torchtext is not needed."""

from __future__ import annotations

import re
import string
import unicodedata
from pathlib import Path
from typing import Any

from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import CLEANUP_REGEX

# Endings of English contractions; the two that are written otherwise come first.
CONTRACTIONS = (
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b", "cannot"),
    (r"n't\b", " not"),
    (r"'ll\b", " will"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'d\b", " would"),
    (r"'m\b", " am"),
    (r"\b(it|that|there|what|where|who|he|she|here|how)'s\b", r"\1 is"),
)


def basic_english(text: str) -> list[str]:
    """Words in lower case, punctuation apart, as torchtext's ``basic_english`` cuts a text."""
    text = re.sub(r'"|<br />|[;:]', lambda found: "" if found[0] == '"' else " ", text.lower())
    return re.sub(r"(['.,()!?])", r" \1 ", text).split()


class TextHandler(BaseHandler):
    """Loads ``source_vocab.pt`` beside the model, and cleans texts."""

    def __init__(self) -> None:
        super().__init__()
        self.source_vocab: Any = None
        self.tokenizer = basic_english

    def initialize(self, context: Any) -> None:
        """Load the model and the vocabulary."""
        super().initialize(context)
        self.source_vocab = self._vocabulary(context)

    def get_source_vocab_path(self, ctx: Any) -> str:
        """Where the vocabulary lies. Raises ``FileNotFoundError`` that says what it is."""
        named = (self.manifest or {}).get("model", {}).get("sourceVocab") or "source_vocab.pt"
        path = Path(str(ctx.system_properties.get("model_dir")), named)
        if path.is_file():
            return str(path)
        raise FileNotFoundError(
            f"{named} is not in the archive. TorchServe's handlers for texts need the vocabulary "
            "that the model was trained with: torch.save a dict from word to number as "
            "source_vocab.pt, and add it to the archive."
        )

    def _vocabulary(self, context: Any) -> Any:
        import torch

        path = self.get_source_vocab_path(context)
        try:
            return torch.load(path, weights_only=False)  # as much the archive's own as its code
        except (ImportError, AttributeError) as error:
            raise RuntimeError(
                f"{Path(path).name} needs a package that is not here ({error}). Save the "
                "vocabulary as a dict, for torchtext's vocab.get_stoi(), or name the package in "
                "code/requirements.txt."
            ) from error

    def _expand_contractions(self, text: str) -> str:
        text = text.replace("\u2019", "'")
        for pattern, written in CONTRACTIONS:
            text = re.sub(pattern, written, text, flags=re.IGNORECASE)
        return text.replace("'", "")

    def _remove_accented_characters(self, text: str) -> str:
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()

    def _remove_html_tags(self, text: str) -> str:
        return CLEANUP_REGEX.sub("", text)

    def _remove_punctuation(self, *args: Any, **kwargs: Any) -> str:
        text: str = kwargs.get("text", args[0] if args else "")
        return text.translate(str.maketrans("", "", string.punctuation))

    _remove_puncutation = _remove_punctuation  # the name that it once had

    def _tokenize(self, text: str) -> list[str]:
        return self.tokenizer(text)
