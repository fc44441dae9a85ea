from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from handlers.directory.artifacts import Contents
from handlers.errors import HandlerError, ModelLoadError
from handlers.frameworks import FRAMEWORKS, for_artifact, huggingface
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Request, Service
from model_server.settings import Settings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported

import transformers
from PIL import Image as image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.utils.logging import disable_progress_bar

Ask = Callable[..., Request]
Serve = Callable[..., Service]

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "who", "ann", "sings")
SMALL: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def bert(name: str, **more: Any) -> Any:
    labels = {"id2label": {0: "NO", 1: "YES"}, "label2id": {"NO": 0, "YES": 1}}
    config = transformers.BertConfig(**SMALL, **{**labels, **more})
    return getattr(transformers, name)(config)


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2, n_positions=32, bos_token_id=3,
        eos_token_id=3,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def t5(**more: Any) -> Any:
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0, eos_token_id=3, pad_token_id=0, **more,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def tokenizer() -> Any:
    words = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=32, **special
    )


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deterministic weights, no bars, and an environment that is put back afterwards."""
    for name in ("TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    torch.manual_seed(0)
    disable_progress_bar()
    yield
    torch.set_num_threads(1)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model and its tokenizer as save_pretrained does."""

    def save(model: Any, **options: Any) -> Path:
        model_dir = tmp_path / "model"
        model.save_pretrained(model_dir, **options)
        tokenizer().save_pretrained(model_dir)
        return model_dir

    return save


@pytest.fixture
def serve(options: HandlerOptions) -> Serve:
    """Loads a directory, with HF_TASK set if it is given."""

    def load(model_dir: Path, task: str = "") -> Service:
        settings = replace(options, defaults=Settings(hf_task=task).model_defaults)
        plan = inspect_model(model_dir, settings)
        return load_service(plan, model_name="m", options=settings)

    return load


def answer(service: Service, request: Request) -> Any:
    return json.loads(service.invoke(request).body)


def test_a_classifier_answers_texts_with_labels(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    service = serve(saved(bert("BertForSequenceClassification")))
    (one,) = answer(service, ask('{"inputs": "good"}'))
    assert one["label"] in ("YES", "NO")
    assert 0.5 <= one["score"] <= 1
    two = answer(service, ask('{"inputs": ["good", "bad"]}'))
    assert two[0] == pytest.approx(one)
    assert len(two) == 2


def test_parameters_reach_the_pipeline(saved: Callable[..., Path], serve: Serve, ask: Ask) -> None:
    service = serve(saved(bert("BertForSequenceClassification")))
    ranked = answer(service, ask('{"inputs": "good", "parameters": {"top_k": 2}}'))
    assert {item["label"] for item in ranked} == {"YES", "NO"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("good", "text/plain"),
        ('"good"', "application/json"),
        ('["good"]', ""),
        ("inputs\ngood\n", "text/csv"),
    ],
)
def test_a_text_may_come_in_other_ways(
    saved: Callable[..., Path], serve: Serve, ask: Ask, body: str, content_type: str
) -> None:
    service = serve(saved(bert("BertForSequenceClassification")))
    (expected,) = answer(service, ask('{"inputs": "good"}'))
    assert answer(service, ask(body, content_type)) == [pytest.approx(expected)]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_generator_goes_on_with_a_text(
    saved: Callable[..., Path], serve: Serve, ask: Ask, sharded: bool
) -> None:
    model_dir = saved(gpt2(), **({"max_shard_size": "1KB"} if sharded else {}))
    assert (model_dir / "model.safetensors.index.json").exists() == sharded
    service = serve(model_dir)
    body = '{"inputs": "good", "parameters": {"max_new_tokens": 2, "do_sample": false}}'
    (written,) = answer(service, ask(body))
    assert written["generated_text"].startswith("good")


@pytest.mark.parametrize("task", ["", "question-answering"])
def test_an_answer_is_a_part_of_the_context(
    saved: Callable[..., Path], serve: Serve, ask: Ask, task: str
) -> None:
    service = serve(saved(bert("BertForQuestionAnswering")), task)
    context = "ann sings good " * 20  # longer than the tokenizer takes: read in pieces
    asked = {"question": "who sings", "context": context}
    found = answer(service, ask(json.dumps({"inputs": asked})))
    assert found["answer"] == context[found["start"] : found["end"]] != ""
    several = answer(service, ask(json.dumps({"inputs": asked, "parameters": {"top_k": 3}})))
    assert [item["score"] for item in several] == sorted(
        (i["score"] for i in several), reverse=True
    )
    assert several[0] == pytest.approx(found)
    assert answer(service, ask(json.dumps(asked))) == pytest.approx(found)
    rows = f"question,context\nwho sings,{context}\n"
    assert answer(service, ask(rows, "text/csv")) == [pytest.approx(found)]


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("", "generated_text"),
        ("summarization", "summary_text"),
        ("translation_en_to_de", "translation_text"),
    ],
)
def test_an_encoder_decoder_writes_a_text(
    saved: Callable[..., Path], serve: Serve, ask: Ask, task: str, key: str
) -> None:
    service = serve(saved(t5()), task)
    body = '{"inputs": ["good bad", "bad"], "parameters": {"max_new_tokens": 3}}'
    assert [list(item) for item in answer(service, ask(body))] == [[key], [key]]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertForMaskedLM", "fill-mask"),
        ("BertForTokenClassification", "token-classification"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_other_architectures_name_their_task_too(
    saved: Callable[..., Path], serve: Serve, ask: Ask, name: str, task: str
) -> None:
    model_dir = saved(bert(name))
    text = ask('{"inputs": "good [MASK] sings"}')
    assert answer(serve(model_dir), text)
    assert answer(serve(model_dir, task), text)


def test_a_models_own_settings_may_name_its_task(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    model_dir = saved(bert("BertForSequenceClassification"))
    own = '[environment]\nHF_TASK = "feature-extraction"\n'
    (model_dir / "modelyard.toml").write_text(own)
    (vectors,) = answer(serve(model_dir, "token-classification"), ask('{"inputs": "good"}'))
    assert {len(vector) for vector in vectors} == {SMALL["hidden_size"]}


def test_a_classifier_can_be_asked_for_labels_it_never_saw(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    labels = {"id2label": {0: "entailment", 1: "other"}, "label2id": {"entailment": 0, "other": 1}}
    model_dir = saved(bert("BertForSequenceClassification", **labels))
    service = serve(model_dir, "zero-shot-classification")
    body = '{"inputs": "ann sings", "parameters": {"candidate_labels": ["good", "bad"]}}'
    assert sorted(answer(service, ask(body))["labels"]) == ["bad", "good"]


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_mapped(saved: Callable[..., Path], serve: Serve, ask: Ask, form: str) -> None:
    model_dir = saved(bert("BertForSequenceClassification"))
    if form.endswith(".bin"):
        torch.save(load_file(model_dir / "model.safetensors"), model_dir / form)
        (model_dir / "model.safetensors").unlink()
    service = serve(model_dir)
    assert str(model_dir / form) in Path("/proc/self/maps").read_text()
    assert answer(service, ask("good", "text/plain"))


def test_a_script_that_imports_torch_alone_still_gets_the_pipeline(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    model_dir = saved(bert("BertForSequenceClassification"))
    (model_dir / "code").mkdir()
    script = "import torch\ndef predict_fn(data, model): return [model(data['inputs']), 'mine']\n"
    (model_dir / "code" / "inference.py").write_text(script)
    (scores, mine) = answer(serve(model_dir), ask('{"inputs": "good"}'))
    assert (mine, len(scores)) == ("mine", 1)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ('{"inputs": 5}', "", 400),
        ('{"inputs": null}', "", 400),
        ('{"inputs": []}', "", 400),
        ('{"text": 5}', "", 400),
        ("[1, 2]", "", 400),
        ('{"inputs": "good", "parameters": [1]}', "", 400),
        ('{"inputs": "good", ', "", 400),
        ("text\ngood\n", "text/csv", 400),
        ("", "text/csv", 400),
        ("good", "application/pdf", 415),
    ],
)
def test_a_body_that_is_no_text_is_the_clients_fault(
    saved: Callable[..., Path],
    serve: Serve,
    ask: Ask,
    body: str,
    content_type: str,
    status: int,
) -> None:
    service = serve(saved(bert("BertForSequenceClassification")))
    with pytest.raises(HandlerError) as caught:
        service.invoke(ask(body, content_type))
    assert caught.value.status == status
    assert len(answer(service, ask('{"inputs": "good"}'))) == 1


@pytest.mark.parametrize("body", ['{"inputs": "who"}', '{"inputs": {"question": "who"}}'])
def test_a_question_needs_a_context(
    saved: Callable[..., Path], serve: Serve, ask: Ask, body: str
) -> None:
    service = serve(saved(bert("BertForQuestionAnswering")))
    with pytest.raises(HandlerError, match="the texts question and context") as caught:
        service.invoke(ask(body))
    assert caught.value.status == 400


def test_no_text_can_be_generated_with_parameters_nobody_knows(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    service = serve(saved(gpt2()))
    with pytest.raises(HandlerError, match="nonsense") as caught:
        service.invoke(ask('{"inputs": "good", "parameters": {"nonsense": 1}}'))
    assert caught.value.status == 400


def edit_config(model_dir: Path, **changes: Any) -> None:
    path = model_dir / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("spoil", "task", "reason"),
    [
        (lambda d: truncate(d / "model.safetensors"), "", "model.safetensors is damaged or incom"),
        (lambda d: edit_config(d, model_type="nope"), "", "model_type 'nope', which transformers"),
        (
            lambda d: edit_config(d, architectures=["BertForNothing"]),
            "",
            "names BertForNothing, which does not say what the model is for. Set HF_TASK",
        ),
        (lambda d: edit_config(d, architectures=None), "", "names no architecture"),
        (lambda d: truncate(d / "config.json"), "", "config.json cannot be read"),
        (lambda d: None, "token-classification", "BertForSequenceClassification, which is for"),
        (lambda d: None, "nonsense", "HF_TASK is 'nonsense', which this version of transformers"),
        (
            lambda d: [path.unlink() for path in d.glob("tokenizer*")],
            "",
            "needs the model's tokenizer, and there is none",
        ),
        (lambda d: (d / "tokenizer.json").unlink(), "", "tokenizer"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "", r"\(while loading model.saf"),
        (lambda d: None, "image-classification", "image processor"),
    ],
)
def test_a_directory_that_cannot_be_served_says_why(
    saved: Callable[..., Path],
    serve: Serve,
    spoil: Callable[[Path], None],
    task: str,
    reason: str,
) -> None:
    model_dir = saved(bert("BertForSequenceClassification"))
    spoil(model_dir)
    with pytest.raises(ModelLoadError, match=reason):
        serve(model_dir, task)


def test_a_missing_shard_fails_the_load(saved: Callable[..., Path], serve: Serve) -> None:
    model_dir = saved(gpt2(), max_shard_size="1KB")
    next(model_dir.glob("model-*.safetensors")).unlink()
    with pytest.raises(ModelLoadError, match=r"model-0000\d-of-"):
        serve(model_dir)


def test_weights_beside_another_librarys_config_are_a_plain_state_dict(tmp_path: Path) -> None:
    files = ("config.json", "model.safetensors")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    found = for_artifact(Contents(tmp_path, files))
    assert found is not None
    assert found[0].NAME == "pytorch"
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    found = for_artifact(Contents(tmp_path, files))
    assert found is not None
    assert (found[0].NAME, found[1]) == ("huggingface", "model.safetensors")
    assert FRAMEWORKS["pytorch"].find_artifact(Contents(tmp_path, files)) is None


def test_a_config_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert for_artifact(Contents(tmp_path, ("config.json",))) is None


def test_models_of_other_makes_predict_as_with_pytorch() -> None:
    result = huggingface.predict_fn(torch.ones(1, 2), torch.nn.Linear(2, 1))
    assert result.shape == (1, 1)
    with pytest.raises(TypeError, match="give the model a predict_fn"):
        huggingface.predict_fn("text", {"weights": 2})


def test_sounds_stay_bytes_and_images_become_pictures() -> None:
    assert huggingface.input_fn(b"RIFF", "audio/wav") == {"inputs": b"RIFF"}
    stream = io.BytesIO()
    image.new("L", (2, 3)).save(stream, "png")
    assert huggingface.input_fn(stream.getvalue(), "image/png")["inputs"].size == (2, 3)
    with pytest.raises(HandlerError, match="not an image") as caught:
        huggingface.input_fn(b"garbage", "image/png")
    assert caught.value.status == 400


@pytest.fixture
def vision(tmp_path: Path, serve: Serve) -> Service:
    """A classifier of images, served."""
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        image_size=16, patch_size=8,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    return serve(tmp_path / "model")


def test_an_image_comes_as_it_is_or_as_base64(vision: Service, ask: Ask) -> None:
    stream = io.BytesIO()
    image.effect_noise((20, 20), 50).convert("RGB").save(stream, "png")
    found = answer(vision, ask(stream.getvalue(), "image/png"))
    assert {item["label"] for item in found} == {"LABEL_0", "LABEL_1"}
    encoded = base64.b64encode(stream.getvalue()).decode()
    assert answer(vision, ask(json.dumps({"inputs": encoded})))[0] == pytest.approx(found[0])


@pytest.mark.parametrize("inputs", ["http://127.0.0.1:1/a.png", [__file__], {"image": __file__}])
def test_links_and_paths_to_images_are_not_followed(vision: Service, ask: Ask, inputs: Any) -> None:
    with pytest.raises(HandlerError, match="are not followed") as caught:
        vision.invoke(ask(json.dumps({"inputs": inputs})))
    assert caught.value.status == 400


def test_code_in_the_directory_is_part_of_the_model(
    saved: Callable[..., Path], serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    model_dir = saved(bert("BertForSequenceClassification"))
    code = (
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
        "class OwnModel(BertForSequenceClassification):\n    config_class = OwnConfig\n"
    )
    (model_dir / "own_of_test.py").write_text(code)
    edit_config(
        model_dir,
        model_type="own",
        auto_map={
            "AutoConfig": "own_of_test.OwnConfig",
            "AutoModelForSequenceClassification": "own_of_test.OwnModel",
        },
    )
    assert len(answer(serve(model_dir), ask("good", "text/plain"))) == 1
    shutil.rmtree(
        Path(transformers.utils.hub.HF_MODULES_CACHE, "transformers_modules", "model"), True
    )


def test_instances_are_answered_with_predictions(
    saved: Callable[..., Path], serve: Serve, ask: Ask
) -> None:
    service = serve(saved(bert("BertForSequenceClassification")))
    expected = answer(service, ask('{"inputs": ["good", "bad"]}'))
    found = answer(service, ask('{"instances": ["good", "bad"]}'))
    assert found == {"predictions": expected}
    ranked = answer(service, ask('{"instances": ["good"], "parameters": {"top_k": 2}}'))
    assert [len(one) for one in ranked["predictions"]] == [2]
