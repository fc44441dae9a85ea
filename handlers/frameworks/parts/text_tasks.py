"""Tasks that people's models are made for and that transformers 5 has no pipeline for any more.

They take and return what the pipelines of transformers 4 did: written text, and answers found in a
context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUESTION_ANSWERING = "question-answering"

# By task, the key of what was written. Translation may name languages: translation_en_to_de.
WRITING = {
    "text2text-generation": "generated_text",
    "summarization": "summary_text",
    "translation": "translation_text",
}

TEXT_TASKS = (*WRITING, QUESTION_ANSWERING)

_MAX_TOKENS = 384
_MAX_ANSWER_TOKENS = 15


def text_task(task: str, model_dir: str, device: str) -> Any:
    """The callable for one of ``TEXT_TASKS``, with the model and the tokenizer of a directory."""
    from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, AutoTokenizer

    answers = task == QUESTION_ANSWERING
    kind: Any = AutoModelForQuestionAnswering if answers else AutoModelForSeq2SeqLM
    options = {"trust_remote_code": True, "local_files_only": True}
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir, **options)
    model = kind.from_pretrained(model_dir, dtype="auto", **options).to(device).eval()
    return Answering(model, tokenizer) if answers else Writing(task, model, tokenizer)


class Writing:
    """Text in, text out: summaries, translations and what T5 and its kin were trained for."""

    def __init__(self, task: str, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._key = WRITING[task.partition("_")[0]]
        own = (getattr(model.config, "task_specific_params", None) or {}).get(task, {})
        self._prefix = own.get("prefix", "")
        self._defaults = {name: value for name, value in own.items() if name != "prefix"}

    def __call__(self, inputs: Any, **parameters: Any) -> list[dict[str, str]]:
        """One written text for each text. ``parameters`` are those of ``generate``."""
        import torch

        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("inputs must be a text or a list of texts")
        tokens = self._tokenizer(
            [self._prefix + text for text in texts],
            padding=True,
            truncation=True,
            return_tensors="pt",
        ).to(self._model.device)
        tokens.pop("token_type_ids", None)  # which encoder-decoders do not know
        with torch.inference_mode():
            written = self._model.generate(**tokens, **{**self._defaults, **parameters})
        decoded = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [{self._key: text} for text in decoded]


class Answering:
    """A question and a context in; the part of the context that answers it out."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer

    def __call__(self, inputs: Any, *, top_k: int = 1, **unknown: Any) -> Any:
        """The best answer, or the best ``top_k``; for a list of questions, a list."""
        if unknown:
            raise TypeError(f"question-answering has no parameter {', '.join(unknown)}, only top_k")
        if isinstance(inputs, list):
            return [self(item, top_k=top_k) for item in inputs]
        texts = [inputs.get(name) for name in ("question", "context")] if _is_map(inputs) else []
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise TypeError("inputs must have the texts question and context")
        found = self._answers(texts[0], texts[1])[: max(1, int(top_k))]
        return found[0] if top_k == 1 and found else found

    def _answers(self, question: str, context: str) -> list[dict[str, Any]]:
        """All spans worth telling, the likeliest first. A long context is read in pieces."""
        import torch

        length = min(_MAX_TOKENS, self._tokenizer.model_max_length)
        tokens = self._tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=length // 4,
            padding=True,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        pieces = [tokens.sequence_ids(piece) for piece in range(len(tokens["input_ids"]))]
        offsets = tokens.pop("offset_mapping").tolist()
        tokens.pop("overflow_to_sample_mapping", None)
        with torch.inference_mode():
            result = self._model(**tokens.to(self._model.device))
        found: dict[tuple[int, int], float] = {}
        for piece, who in enumerate(pieces):
            inside = torch.tensor([part == 1 for part in who])
            starts, ends = (
                logits[piece].float().cpu().masked_fill(~inside, -torch.inf).softmax(-1)
                for logits in (result.start_logits, result.end_logits)
            )
            scores = torch.outer(starts, ends).triu().tril(_MAX_ANSWER_TOKENS - 1)
            best = scores.flatten().topk(min(20, scores.numel()))
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                first, last = divmod(place, len(who))
                if score > 0:
                    span = (offsets[piece][first][0], offsets[piece][last][1])
                    found[span] = max(score, found.get(span, 0.0))
        ranked = sorted(found.items(), key=lambda item: -item[1])
        return [
            {"score": score, "start": start, "end": end, "answer": context[start:end]}
            for (start, end), score in ranked
        ]


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
