"""Run by the interpreter of TensorFlow's environment: see test_apart.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from handlers.directory.artifacts import Contents
from handlers.errors import HandlerError, ModelLoadError
from handlers.frameworks import for_artifact, tensorflow
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Request, Resources, Response, Service

Ask = Callable[..., Request]
Serve = Callable[..., Service]

needs_tensorflow = pytest.mark.skipif(
    not tensorflow.installed(), reason="runs in TensorFlow's environment"
)

PLACES = (".", "1", "export/Servo/1", "half_plus_two/00000123", "my_model")


@pytest.fixture
def serve(options: HandlerOptions) -> Serve:
    """Loads a directory."""

    def load(model_dir: Path) -> Service:
        plan = inspect_model(model_dir, options)
        return load_service(plan, model_name="m", options=options)

    return load


@pytest.fixture
def tf() -> Iterator[Any]:
    loaded = import_module("tensorflow")
    yield loaded
    loaded.keras.backend.clear_session()


def spec(tf: Any, name: str, shape: list[int | None], dtype: Any = None) -> Any:
    return tf.TensorSpec(shape, dtype or tf.float32, name=name)


def save(tf: Any, model_dir: Path, signature: list[Any], **functions: Callable[..., Any]) -> Path:
    """A SavedModel with these functions as its signatures; all have the same inputs."""
    module = tf.Module()
    module.ones = tf.Variable([[1.0], [1.0]])
    signatures = {
        name: tf.function(function, input_signature=signature).get_concrete_function()
        for name, function in functions.items()
    }
    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(model_dir), signatures=signatures)
    return model_dir


def save_sum(tf: Any, model_dir: Path) -> Path:
    """It adds up the two numbers of a row."""
    rows = [spec(tf, "x", [None, 2])]
    return save(tf, model_dir, rows, serving_default=lambda x: {"y": x @ tf.ones((2, 1))})


def save_two(tf: Any, model_dir: Path) -> Path:
    """Text and numbers by name in, both by name out."""
    inputs = [spec(tf, "text", [None], tf.string), spec(tf, "number", [None], tf.int32)]

    def upper(text: Any, number: Any) -> dict[str, Any]:
        return {"upper": tf.strings.upper(text), "next": number + 1}

    def lower(text: Any, number: Any) -> dict[str, Any]:
        return {"lower": tf.strings.lower(text), "same": number}

    return save(tf, model_dir, inputs, serving_default=upper, other=lower)


@needs_tensorflow
@pytest.mark.parametrize(
    ("body", "content_type", "answer"),
    [
        ('{"instances": [[1, 2], [3, 4]]}', "", '{"predictions": [[3.0], [7.0]]}'),
        ('{"instances": [{"x": [1, 2]}]}', "", '{"predictions": [[3.0]]}'),
        ('{"inputs": {"x": [[1, 2]]}}', "", '{"outputs": [[3.0]]}'),
        ('{"inputs": [[1, 2]]}', "", '{"outputs": [[3.0]]}'),
        ('{"signature_name": "serving_default", "instances": [[1, 2]]}', "",
         '{"predictions": [[3.0]]}'),
        ("[[1, 2], [3, 4]]", "", '{"predictions": [[3.0], [7.0]]}'),
        ("1,2\n3,4\n", "text/csv", '{"predictions": [[3.0], [7.0]]}'),
        ("[1, 2]\n[3, 4]\n", "application/jsonlines", '{"predictions": [[3.0], [7.0]]}'),
    ],
)  # fmt: skip
def test_requests_are_those_of_tensorflow_serving(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path, body: str, content_type: str, answer: str
) -> None:
    assert serve(save_sum(tf, tmp_path)).invoke(ask(body, content_type)).body == answer.encode()


@needs_tensorflow
def test_other_types_get_the_predictions_alone(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    service = serve(save_sum(tf, tmp_path))
    assert service.invoke(ask("[[1, 2], [3, 4]]", accept="text/csv")).body == b"3.0\n7.0\n"


@needs_tensorflow
def test_several_outputs_come_by_row_or_by_name(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    service = serve(save_two(tf, tmp_path))
    rows = [{"text": "a", "number": 1}, {"text": {"b64": "/w=="}, "number": 2}]
    answer = json.loads(service.invoke(ask(json.dumps({"instances": rows}))).body)
    assert answer == {
        "predictions": [{"upper": "A", "next": 2}, {"upper": {"b64": "/w=="}, "next": 3}]
    }
    columns = {"text": ["a", "b"], "number": [1, 2]}
    answer = json.loads(service.invoke(ask(json.dumps({"inputs": columns}))).body)
    assert answer == {"outputs": {"upper": ["A", "B"], "next": [2, 3]}}
    body = {"instances": rows[:1], "signature_name": "other"}
    answer = json.loads(service.invoke(ask(json.dumps(body))).body)
    assert answer == {"predictions": [{"lower": "a", "same": 1}]}


@needs_tensorflow
@pytest.mark.parametrize("place", PLACES)
def test_archives_of_other_containers_are_found(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path, place: str
) -> None:
    save_sum(tf, tmp_path / place)
    assert serve(tmp_path).invoke(ask("[[1, 2]]")).body == b'{"predictions": [[3.0]]}'


@needs_tensorflow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras, of its own arrays
@pytest.mark.parametrize("name", ["model.keras", "net.h5", "export"])
def test_keras_models_are_served(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path, name: str
) -> None:
    layers = [tf.keras.layers.Dense(1, kernel_initializer="ones"), tf.keras.layers.Dropout(0.9)]
    model = tf.keras.Sequential([tf.keras.Input((2,)), *layers])
    if name == "export":
        model.export(str(tmp_path / "1"), verbose=False)
    else:
        model.save(tmp_path / name)
    service = serve(tmp_path)
    assert service.invoke(ask("[[1, 2]]")).body == b'{"predictions": [[3.0]]}'
    with pytest.raises(HandlerError) as caught:
        service.invoke(ask("[[1, 2, 3]]"))
    assert caught.value.status == 400
    assert "\x1b" not in caught.value.message


@needs_tensorflow
def test_inputs_and_outputs_of_a_keras_model_have_names(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    left, right = (tf.keras.Input((1,), name=name) for name in ("left", "right"))
    total = tf.keras.layers.Add(name="total")([left, right])
    product = tf.keras.layers.Multiply(name="product")([left, right])
    tf.keras.Model([left, right], {"total": total, "product": product}).save(
        tmp_path / "model.keras"
    )
    body = '{"instances": [{"left": [2], "right": [3]}]}'
    answer = json.loads(serve(tmp_path).invoke(ask(body)).body)
    assert answer == {"predictions": [{"total": [5.0], "product": [6.0]}]}


@needs_tensorflow
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"instances": [[1, 2, 3]]}', r"takes x: float32 \(None, 2\)"),
        ('{"instances": [[1, 2], [3]]}', "takes x: float32"),
        ('{"instances": [["a", "b"]]}', "takes x: float32"),
        ('{"instances": []}', "takes x: float32"),
        ('{"instances": [{"z": [1, 2]}]}', "takes the inputs x"),
        ('{"instances": [{"x": [1, 2]}, {"z": [1, 2]}]}', "must have the same names"),
        ('{"inputs": {"x": [[1, 2]], "z": 1}}', "takes the inputs x"),
        ('{"instances": [[1, 2]], "signature_name": "nope"}', "it has serving_default"),
        ('{"instances": [[1, 2]], "signature_name": 5}', "signature_name must be a name"),
        ('{"instances": [{"b64": "!"}]}', "is not base64"),
        ("5", "takes x: float32"),
        ("null", "takes x: float32"),
        ('{"instances": ', "not valid JSON"),
    ],
)
def test_a_request_that_does_not_fit_is_told_what_would(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path, body: str, reason: str
) -> None:
    service = serve(save_sum(tf, tmp_path))
    with pytest.raises(HandlerError, match=reason) as caught:
        service.invoke(ask(body))
    assert caught.value.status == 400
    assert len(caught.value.message) < 700


@needs_tensorflow
def test_outputs_that_are_not_one_a_row_are_asked_for_by_inputs(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    rows = [spec(tf, "x", [None, 2])]

    def both(x: Any) -> dict[str, Any]:
        return {"same": x, "total": tf.reduce_sum(x)}

    service = serve(save(tf, tmp_path, rows, serving_default=both))
    with pytest.raises(HandlerError, match="send inputs, not instances"):
        service.invoke(ask('{"instances": [[1, 2]]}'))
    answer = json.loads(service.invoke(ask('{"inputs": [[1, 2]]}')).body)
    assert answer == {"outputs": {"same": [[1.0, 2.0]], "total": 3.0}}


@needs_tensorflow
def test_bytes_reach_the_model_as_they_were(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    inputs = [spec(tf, "image", [None], tf.string)]
    model_dir = save(tf, tmp_path, inputs, serving_default=lambda image: tf.strings.length(image))
    text = base64.b64encode(b"\xff\x00\x01").decode()
    body = json.dumps({"instances": [{"b64": text}, {"image": {"b64": text}}["image"]]})
    assert serve(model_dir).invoke(ask(body)).body == b'{"predictions": [3, 3]}'


@needs_tensorflow
def test_a_script_without_model_fn_gets_the_model_and_the_document(
    tf: Any, serve: Serve, ask: Ask, tmp_path: Path
) -> None:
    save_sum(tf, tmp_path / "1")
    (tmp_path / "code").mkdir()
    script = "import tensorflow\ndef predict_fn(data, model): return model(data['instances']) + 1\n"
    (tmp_path / "code" / "inference.py").write_text(script)
    assert serve(tmp_path).invoke(ask("[[1, 2]]")).body == b"[[4.0]]"


@needs_tensorflow
def test_a_model_without_a_signature_is_refused(tf: Any, serve: Serve, tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ModelLoadError, match=r"saved_model.pb has no signature to call"):
        serve(tmp_path)


@needs_tensorflow
@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"garbage")])
def test_a_damaged_model_fails_the_load(
    tf: Any, serve: Serve, tmp_path: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(save_sum(tf, tmp_path) / name)
    reason = "saved_model.pb: .* may be damaged|Nothing to serve"
    with pytest.raises(ModelLoadError, match=reason):
        serve(tmp_path)


@needs_tensorflow
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_damaged_keras_file_fails_the_load(
    tf: Any, serve: Serve, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(ModelLoadError, match=f"cannot load {name}: .* may be damaged"):
        serve(tmp_path)


@needs_tensorflow
def test_a_gpu_that_is_not_there_is_told(tf: Any, options: HandlerOptions, tmp_path: Path) -> None:
    plan = inspect_model(save_sum(tf, tmp_path), options)
    with pytest.raises(ModelLoadError, match=r"to run on GPU 0, but TensorFlow .* sees none"):
        tensorflow.load(plan, Resources(gpu_id=0))


@pytest.mark.parametrize(
    ("files", "artifact"),
    [
        (["saved_model.pb", "1/saved_model.pb"], "saved_model.pb"),
        (["1/saved_model.pb", "10/saved_model.pb", "9/saved_model.pb"], "10/saved_model.pb"),
        (["1/saved_model.pb", "2/readme.md"], "1/saved_model.pb"),
        (["export/Servo/7/saved_model.pb"], "export/Servo/7/saved_model.pb"),
        (["net/2/saved_model.pb", "code/inference.py"], "net/2/saved_model.pb"),
        (["net/saved_model.pb"], "net/saved_model.pb"),
        (["a/1/saved_model.pb", "b/1/saved_model.pb"], None),
        (["a/b/c/saved_model.pb"], None),
        (["model.keras", "model.h5"], "model.keras"),
        (["weights.txt"], None),
    ],
)
def test_the_model_is_the_highest_version(
    tmp_path: Path, files: list[str], artifact: str | None
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = sorted(path for path in tmp_path.iterdir())
    contents = Contents(
        tmp_path,
        tuple(path.name for path in names if path.is_file()),
        tuple(path.name for path in names if path.is_dir()),
    )
    assert tensorflow.find_artifact(contents) == artifact
    if artifact is not None:
        found = for_artifact(contents)
        assert found is not None
        assert found[0].NAME == "tensorflow"


@needs_tensorflow
def test_tritons_backend_answers_by_the_names_of_outputs(
    tf: Any, tmp_path: Path, serve: Serve
) -> None:
    config = """
    platform: "tensorflow_savedmodel" max_batch_size: 8
    input [ { name: "text" data_type: TYPE_STRING dims: [ ] },
            { name: "number" data_type: TYPE_INT32 dims: [ ] } ]
    """
    save_two(tf, tmp_path / "net/1/model.savedmodel")
    (tmp_path / "net/config.pbtxt").write_text(config)
    model = serve(tmp_path)
    text = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}
    number = {"name": "number", "shape": [2], "datatype": "INT32", "data": [1, 2]}
    request = Request(json.dumps({"inputs": [text, number]}).encode())
    alone = json.loads(model.invoke(request).body)["outputs"]
    assert {output["shape"][0] for output in alone} == {2}
    assert {output["datatype"] for output in alone} >= {"BYTES"}
    for answer in model.invoke_batch([request, request]):
        assert isinstance(answer, Response)
        assert json.loads(answer.body)["outputs"] == alone
