"""Hugging Face transformers: a directory of save_pretrained, served as the pipeline of its task.

Nothing is fetched: what a model needs lies in its directory. ``HF_HUB_OFFLINE=0`` in the server's
environment lets models' own code fetch all the same.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.data import codecs
from handlers.data.envelopes import INSTANCES, Envelope
from handlers.data.media_types import CSV, JSON, parse
from handlers.directory.artifacts import Contents
from handlers.directory.pretrained import check_task, read_config, task_of, weights_of
from handlers.errors import InvalidInput, ModelLoadError, UnsupportedContentType
from handlers.frameworks import python, pytorch
from handlers.frameworks.parts.text_tasks import TEXT_TASKS, text_task
from handlers.optional_packages import usable
from handlers.types import ModelPlan, Resources

NAME = "huggingface"
MODULES: tuple[str, ...] = ("transformers", "tokenizers", "sentence_transformers", "peft")
EXTENSIONS: tuple[str, ...] = ()  # a config.json beside weights, whatever they are called
PINS: tuple[str, ...] = ()
resident_bytes = 400 << 20

TASK_VARIABLE = "HF_TASK"

# With none of these transformers makes an empty tokenizer, which knows no word, and says nothing.
_TOKENIZER_FILES = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "source.", "bpe")
_TOKENIZER_ENDS = (".model", ".tiktoken", ".tokenizer")
_TASKS_WITHOUT_TEXT = ("image", "audio", "video", "object", "depth", "mask-gen", "keypoint", "auto")

# In the names of tasks whose pipelines take a text for the address of an image or a sound.
_MEDIA = ("image", "audio", "video", "object", "depth", "mask-gen", "keypoint", "speech",
          "document", "visual", "any-to-any")  # fmt: skip
_LINKS = ("http://", "https://", "file:")


def installed() -> bool:
    """Whether transformers and torch can be imported."""
    return find_spec("transformers") is not None and find_spec("torch") is not None


def find_artifact(contents: Contents) -> str | None:
    """The file with the weights, or their index, where config.json is that of transformers."""
    return weights_of(contents)


def preload() -> None:
    """Import the pipelines; make, save, load and ask a tiny model, on one thread."""
    pytorch.preload()
    _prepare_environment(threads=1)
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    _silence()
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]"
    )
    config = transformers.BertConfig(
        vocab_size=2, hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=2
    )
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        classify = _pipeline("text-classification", folder, "cpu")
        output_fn(predict_fn(input_fn(b'{"inputs": ["a", "b"]}', JSON), classify), JSON, JSON)


def _prepare_environment(threads: int) -> None:
    """What transformers, its hub client and the Rust tokenizers read when they are first used."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", os.environ["HF_HUB_OFFLINE"])
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def _silence() -> None:
    """No progress bars: they fill the log, and tqdm starts a thread for them."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def after_fork(threads: int) -> None:
    """Give torch and the tokenizers this many threads, and fresh random state."""
    pytorch.after_fork(threads)
    _prepare_environment(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """The pipeline of the model's task. safetensors are mapped. Raises ``ModelLoadError``."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs transformers and PyTorch, which are missing.")
    _prepare_environment(resources.threads)
    import torch

    torch.set_num_threads(resources.threads)
    model_dir = Path(plan.model_dir)
    config = read_config(model_dir)
    task = dict(plan.settings.environment).get(TASK_VARIABLE, "")
    if task:
        check_task(config, task)
    task = task or task_of(config)
    _check_architecture(config)
    _check_tokenizer(model_dir, task)
    _silence()
    device = pytorch.device_of(resources)
    try:
        return _pipeline(task, plan.model_dir, device)
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelLoadError(f"{plan.artifact} is damaged or incomplete: {error}.") from error


def _pipeline(task: str, model_dir: str, device: str) -> Any:
    from transformers.pipelines import SUPPORTED_TASKS, TASK_ALIASES, pipeline

    kind = task.partition("_")[0]  # translation_en_to_de
    if not {task, kind} & {*SUPPORTED_TASKS, *TASK_ALIASES}:
        if kind in TEXT_TASKS:
            return text_task(task, model_dir, device)
        known = ", ".join(sorted({*SUPPORTED_TASKS, *TASK_ALIASES, *TEXT_TASKS}))
        raise ModelLoadError(
            f"{TASK_VARIABLE} is {task!r}, which this version of transformers does not know; it "
            f"must be one of {known}.",
            status=400,
        )
    # The directory's own Python files are as much the model as its inference.py would be.
    make: Any = pipeline
    return make(task, model=model_dir, device=device, trust_remote_code=True)


def _check_architecture(config: dict[str, Any]) -> None:
    import transformers
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if kind is None or kind in CONFIG_MAPPING or "auto_map" in config:
        return
    raise ModelLoadError(
        f"config.json has the model_type {kind!r}, which transformers {transformers.__version__} "
        "does not know. If a newer version does, name it in code/requirements.txt.",
        status=400,
    )


def _check_tokenizer(model_dir: Path, task: str) -> None:
    if task.startswith(_TASKS_WITHOUT_TEXT):
        return
    names = [path.name.lower() for path in model_dir.iterdir()]
    if not any(n.startswith(_TOKENIZER_FILES) or n.endswith(_TOKENIZER_ENDS) for n in names):
        raise ModelLoadError(
            f"The task {task} needs the model's tokenizer, and there is none: no tokenizer.json, "
            "vocab.txt or the like. Write it with tokenizer.save_pretrained(model_dir).",
            status=400,
        )


def input_fn(body: bytes, content_type: str) -> Any:
    """JSON and text as they are; CSV by its header; an image or a sound as pipelines take them."""
    media_type = parse(content_type or JSON)
    kind = media_type.essence.partition("/")[0]
    if media_type.essence == CSV:
        return _table(codecs.decode_text(body, media_type.charset))
    if kind == "image":
        return {"inputs": _image(body)}
    if kind == "audio":
        return {"inputs": body}
    value = codecs.decode(body, content_type)
    if isinstance(value, dict) and isinstance(value.get(INSTANCES), list):
        rest = {key: item for key, item in value.items() if key != INSTANCES}
        return Envelope(value, {**rest, "inputs": value[INSTANCES]}, "predictions")
    return value


def _table(text: str) -> dict[str, Any]:
    """Rows by the names in the header; with the one column ``inputs``, its values."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidInput(f"The body is not valid CSV: {error}") from error
    names = set(rows[0]) if rows else set()
    if names == {"inputs"}:
        return {"inputs": [row["inputs"] for row in rows]}
    if not names >= {"question", "context"}:
        raise InvalidInput(
            "CSV for this model has a header line and the column inputs, or question and context."
        )
    return {"inputs": rows}


def _image(body: bytes) -> Any:
    if not usable("PIL"):
        raise UnsupportedContentType("Images need Pillow; name it in code/requirements.txt.")
    from PIL import Image

    try:
        return Image.open(io.BytesIO(body)).convert("RGB")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"The body is not an image that can be read: {error}") from error


def predict_fn(data: Any, model: Any) -> Any:
    """``model(inputs, **parameters)`` of a pipeline; of anything else, what PyTorch does."""
    import torch

    if isinstance(model, torch.nn.Module) or not callable(model):
        return pytorch.predict_fn(data, model)
    inputs, parameters = _unpacked(data)
    if any(word in str(getattr(model, "task", "")) for word in _MEDIA):
        _refuse_links(inputs)
    try:
        return model(inputs, **parameters)
    except (ValueError, TypeError, LookupError) as error:  # how pipelines say: not such inputs
        raise InvalidInput(
            f"The model does not take these inputs and parameters: {type(error).__name__}: {error}"
        ) from error


def _refuse_links(inputs: Any) -> None:
    """Raise for what a pipeline of images or sounds would fetch, or open on this machine."""
    if isinstance(inputs, list | dict):
        for item in inputs.values() if isinstance(inputs, dict) else inputs:
            _refuse_links(item)
    elif isinstance(inputs, str) and (inputs.startswith(_LINKS) or _is_path(inputs)):
        raise InvalidInput(
            "Links and paths are not followed. Send the image or the sound itself, with its "
            "content type or as base64."
        )


def _is_path(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or with characters that no path has
        return False


def _unpacked(data: Any) -> tuple[Any, dict[str, Any]]:
    """``{"inputs": ..., "parameters": {...}}`` in its two halves; anything else is all inputs."""
    if not isinstance(data, dict):
        return (data.tolist() if hasattr(data, "tolist") else data), {}
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("The body's parameters must be a JSON object.")
    rest = {key: value for key, value in data.items() if key != "parameters"}
    return rest.get("inputs", rest), parameters


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The prediction in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
