from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handlers.directory.artifacts import Contents
from handlers.directory.pretrained import check_task, read_config, task_of, weights_of
from handlers.errors import ModelLoadError


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("DistilBertForTokenClassification", "token-classification"),
        ("RobertaForQuestionAnswering", "question-answering"),
        ("TapasForTableQuestionAnswering", "table-question-answering"),
        ("LayoutLMForDocumentQuestionAnswering", "document-question-answering"),
        ("BertForMaskedLM", "fill-mask"),
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("ViTForImageClassification", "image-classification"),
        ("DetrForObjectDetection", "object-detection"),
        ("ASTForAudioClassification", "audio-classification"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_the_architecture_tells_the_task(architecture: str, task: str) -> None:
    assert task_of({"architectures": [architecture]}) == task


@pytest.mark.parametrize(
    "config",
    [{}, {"architectures": None}, {"architectures": []}, {"architectures": [5]},
     {"architectures": "BertModel"}, {"architectures": ["BertForNextSentencePrediction"]}],
)  # fmt: skip
def test_where_it_does_not_the_task_must_be_set(config: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError, match="Set HF_TASK") as caught:
        task_of(config)
    assert caught.value.status == 400
    check_task(config, "text-classification")  # then anything may be right


@pytest.mark.parametrize(
    ("architecture", "task", "fits"),
    [
        ("BertForSequenceClassification", "sentiment-analysis", True),
        ("BartForSequenceClassification", "zero-shot-classification", True),
        ("BertForTokenClassification", "ner", True),
        ("BertForTokenClassification", "text-classification", False),
        ("BertModel", "text-classification", False),
        ("BertForMaskedLM", "question-answering", False),
        ("BertForMaskedLM", "feature-extraction", True),
        ("T5ForConditionalGeneration", "summarization", True),
        ("LlamaForCausalLM", "text-generation", True),
    ],
)
def test_a_task_whose_head_is_missing_is_refused(architecture: str, task: str, fits: bool) -> None:
    config = {"architectures": [architecture]}
    if fits:
        check_task(config, task)
        return
    with pytest.raises(ModelLoadError, match=f"HF_TASK is {task}, but config.json names"):
        check_task(config, task)


@pytest.mark.parametrize(
    ("config", "files", "weights"),
    [
        ('{"model_type": "bert"}', ["model.safetensors"], "model.safetensors"),
        ('{"architectures": ["A"]}', ["pytorch_model.bin"], "pytorch_model.bin"),
        ('{"model_type": "t5"}', ["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (
            '{"model_type": "t5"}',
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            "model.safetensors.index.json",
        ),
        ('{"model_type": "t5"}', ["tf_model.h5"], None),
        ('{"_class_name": "UNet"}', ["model.safetensors"], None),
        ('{"architecture": "resnet18"}', ["model.safetensors"], None),
        ("", ["model.safetensors"], None),
    ],
)
def test_weights_count_beside_a_config_of_transformers(
    tmp_path: Path, config: str, files: list[str], weights: str | None
) -> None:
    (tmp_path / "config.json").write_text(config)
    assert weights_of(Contents(tmp_path, ("config.json", *files))) == weights
    assert weights_of(Contents(tmp_path, tuple(files))) is None


def test_many_labels_do_not_hide_the_keys(tmp_path: Path) -> None:
    labels = ",".join(f'"{number}": "label number {number}"' for number in range(1000))
    (tmp_path / "config.json").write_text(f'{{"id2label": {{{labels}}}, "model_type": "vit"}}')
    contents = Contents(tmp_path, ("config.json", "model.safetensors"))
    assert weights_of(contents) == "model.safetensors"


@pytest.mark.parametrize("text", ["", "{", "[1]", "5", "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert caught.value.status == 400
