"""What a directory of Hugging Face's ``save_pretrained`` holds, told without transformers.

Kept apart from the framework modules because PyTorch's must know, too: the ``model.safetensors``
in such a directory is no state dict that wants a class in model.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from handlers.directory.artifacts import Contents
from handlers.errors import ModelLoadError

CONFIG = "config.json"

# The order in which transformers itself looks for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Other libraries also write a config.json, and none of them has these keys.
_KEYS = re.compile(rb'"(architectures|model_type)"\s*:')
_CONFIG_START_BYTES = 64 << 10  # the keys are sorted, but long lists of labels may come before

# By the end of the architecture's name, the first that fits.
_TASKS = (
    ("TableQuestionAnswering", "table-question-answering"),
    ("DocumentQuestionAnswering", "document-question-answering"),
    ("QuestionAnswering", "question-answering"),
    ("SequenceClassification", "text-classification"),
    ("TokenClassification", "token-classification"),
    ("MaskedLM", "fill-mask"),
    ("CausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForImageClassification", "image-classification"),
    ("ForObjectDetection", "object-detection"),
    ("ForAudioClassification", "audio-classification"),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
    ("ForCTC", "automatic-speech-recognition"),
)

# Models with one of these heads cannot do the work of another: its weights would be random.
_HEADED = {
    "text-classification": "text-classification",
    "sentiment-analysis": "text-classification",
    "zero-shot-classification": "text-classification",
    "token-classification": "token-classification",
    "ner": "token-classification",
    "question-answering": "question-answering",
    "fill-mask": "fill-mask",
}

# Both end in ForConditionalGeneration, as do models that write text.
_SPEECH = ("Whisper", "Speech2Text")

_SEQ2SEQ = "ForConditionalGeneration"


def weights_of(contents: Contents) -> str | None:
    """The file with the weights, or their index, if a directory is one of save_pretrained."""
    if CONFIG not in contents.files:
        return None
    if not _KEYS.search(contents.start_of(CONFIG, _CONFIG_START_BYTES)):
        return None
    return next((name for name in WEIGHTS if name in contents.files), None)


def read_config(model_dir: Path) -> dict[str, Any]:
    """config.json as a dict. Raises ``ModelLoadError`` when it is not one."""
    try:
        config = json.loads((model_dir / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{CONFIG} cannot be read: {error}.", status=400) from error
    if not isinstance(config, dict):
        raise ModelLoadError(f"{CONFIG} must hold a JSON object.", status=400)
    return config


def task_of(config: dict[str, Any]) -> str:
    """The task that a model was made for, by the name of its architecture.

    Raises ``ModelLoadError`` with what to set when the name does not tell.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    for end, task in _TASKS:
        if name.endswith(end):
            return task
    if name.endswith(_SEQ2SEQ):
        speaks = name.startswith(_SPEECH)
        return "automatic-speech-recognition" if speaks else "text2text-generation"
    if name.endswith("Model"):  # without a head
        return "feature-extraction"
    raise ModelLoadError(
        f"{CONFIG} names {name or 'no architecture'}, which does not say what the model is for. "
        "Set HF_TASK, for example to text-classification.",
        status=400,
    )


def check_task(config: dict[str, Any], task: str) -> None:
    """Raise ``ModelLoadError`` if the model lacks the head that a task needs."""
    try:
        own = task_of(config)
    except ModelLoadError:  # nothing is known of it, so it may be able to
        return
    lacks = own in _HEADED or own == "feature-extraction"
    if task in _HEADED and lacks and _HEADED[task] != own:
        raise ModelLoadError(
            f"HF_TASK is {task}, but {CONFIG} names {config['architectures'][0]}, which is for "
            f"{own}. Leave HF_TASK unset, or set it for this model alone in its settings file.",
            status=400,
        )
