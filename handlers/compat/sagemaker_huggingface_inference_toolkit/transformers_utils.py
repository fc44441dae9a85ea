"""Pipelines, and the tasks they are for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# By the end of the architecture's name in config.json.
ARCHITECTURES_2_TASK = {
    "TapasForQuestionAnswering": "table-question-answering",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
}


def strtobool(val: str) -> int:
    """1 for yes, 0 for no, in the usual spellings."""
    if val.lower() in ("y", "yes", "t", "true", "on", "1"):
        return 1
    if val.lower() in ("n", "no", "f", "false", "off", "0"):
        return 0
    raise ValueError(f"{val!r} is neither yes nor no")


def infer_task_from_model_architecture(model_config_path: str, architecture_index: int = 0) -> str:
    """The task that config.json speaks of. Raises ``ValueError``. HF_TASK is set to it."""
    config = json.loads(Path(model_config_path).read_bytes())
    architecture = (config.get("architectures") or [""])[architecture_index]
    for end, task in ARCHITECTURES_2_TASK.items():
        if architecture.endswith(end):
            os.environ["HF_TASK"] = task
            return task
    raise ValueError("Set HF_TASK to the pipeline's task: config.json does not tell it.")


def get_pipeline(task: str | None, device: int, model_dir: str | Path, **kwargs: Any) -> Any:
    """The pipeline of a task around the model in a directory."""
    import transformers

    if task is None:
        raise OSError("Set HF_TASK to the pipeline's task.")
    make: Any = transformers.pipeline
    return make(task=task, model=str(model_dir), device=device, **kwargs)


def _is_gpu_available() -> bool:
    import torch

    return torch.cuda.is_available()
