from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from handlers.data.codecs import encode
from handlers.data.envelopes import Envelope, Reply, bare_rows, opened
from handlers.types import Request, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

ROOT = Path(__file__).parents[3]

JSON = "application/json"
CSV = "text/csv"


def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("document", "data", "answer"),
    [
        ({"instances": [[1], [2]]}, [[1], [2]], {"predictions": 7}),
        ({"instances": []}, [], {"predictions": 7}),
        ({"signature_name": "s", "instances": [1]}, [1], {"predictions": 7}),
        ({"instances": [{"a": 1}]}, [{"a": 1}], {"predictions": 7}),
        ({"instances": [{"features": [1, 2]}]}, [[1, 2]], {"predictions": 7}),
        ({"inputs": [[1]]}, [[1]], {"outputs": 7}),
        ({"inputs": {"a": [1], "b": [2]}}, {"a": [1], "b": [2]}, {"outputs": 7}),
        ({"inputs": "text", "signature_name": "s"}, "text", {"outputs": 7}),
        ({"features": [1, 2]}, [[1, 2]], 7),
        ({"features": [[1, 2], [3, 4]]}, [[1, 2], [3, 4]], 7),
    ],
)
def test_a_shape_is_opened_and_its_answer_goes_with_it(
    document: dict[str, Any], data: Any, answer: Any
) -> None:
    envelope = opened(document, same)
    assert isinstance(envelope, Envelope)
    assert envelope == document, "an author's own predict_fn gets what was sent"
    assert envelope.data == data
    assert envelope.reply(7) == answer


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": 1},
        {"instances": 3},
        {"inputs": "text", "parameters": {"top_k": 1}},
        {"features": 3},
        {"features": [1], "id": 7},
    ],
)
def test_any_other_document_stays_as_it_is(document: dict[str, Any]) -> None:
    assert opened(document, same) is document


def test_each_named_input_is_converted_by_itself() -> None:
    envelope = opened({"inputs": {"a": [1, 2], "b": "x"}}, lambda value: len(value))
    assert isinstance(envelope, Envelope)
    assert envelope.data == {"a": 2, "b": 1}


def test_rows_with_one_value_called_features_are_rows_with_names() -> None:
    rows = [{"features": 1.5}, {"features": 2.5}]
    assert bare_rows(rows) is rows


def test_types_other_than_json_take_the_answer_without_its_shape() -> None:
    reply = Reply("predictions", [1, 2])
    assert encode(reply, JSON, JSON) == (b'{"predictions": [1, 2]}', JSON)
    assert encode(reply, CSV, JSON) == (b"1\n2\n", CSV)


SCRIPTS = {
    "nothing": "",
    "predict_fn": "def predict_fn(data, model): return sorted(data)\n",
    "output_fn": "def output_fn(prediction, accept): return repr(prediction)\n",
    "input_fn": "import json\ndef input_fn(data, content_type): return json.loads(data)\n",
}
MODEL = "def model_fn(model_dir): return lambda data: repr(type(data).__name__)\n"


@pytest.mark.parametrize(
    ("own", "answer"),
    [
        ("nothing", {"predictions": "'ndarray'"}),
        ("predict_fn", ["instances"]),
        ("output_fn", "\"'ndarray'\""),
        ("input_fn", "'dict'"),
    ],
)
def test_what_an_author_wrote_sees_no_envelope(load: Load, ask: Ask, own: str, answer: Any) -> None:
    service = load({"code/inference.py": MODEL + SCRIPTS[own]})
    body = service.invoke(ask('{"instances": [[1, 2]]}', JSON)).body.decode()
    assert (body if own == "output_fn" else json.loads(body)) == answer


def test_a_batch_answers_each_request_in_its_own_shape(load: Load, ask: Ask) -> None:
    service = load({"code/inference.py": "def model_fn(model_dir): return lambda data: data * 2\n"})
    requests = [
        ask('{"instances": [[1]]}'),
        ask("[[2], [3]]"),
        ask('{"inputs": [[4]]}'),
        ask("broken"),
    ]
    *answers, broken = service.invoke_batch(requests)
    assert [getattr(answer, "body", None) for answer in answers] == [
        b'{"predictions": [[2]]}',
        b"[[4], [6]]",
        b'{"outputs": [[8]]}',
    ]
    assert getattr(broken, "status", 0) == 400


def test_tensors_come_out_of_envelopes_too(load: Load, ask: Ask) -> None:
    script = "import torch\ndef model_fn(model_dir): return torch.nn.Identity()\n"
    service = load({"code/inference.py": script})
    answer = service.invoke(ask('{"instances": [[1, 2]]}'))
    assert answer.body == b'{"predictions": [[1.0, 2.0]]}'


def rows_of_the_page() -> list[tuple[str, str]]:
    """The examples of docs/reference/handlers.md, "JSON"."""
    section = (ROOT / "docs" / "reference" / "handlers.md").read_text().partition("### JSON\n")[2]
    return re.findall(r"^\| `(.*?)` \| `(.*?)` \|$", section.partition("\n#")[0], re.MULTILINE)


@pytest.mark.parametrize(("body", "answer"), rows_of_the_page())
def test_the_page_is_right_about_shapes(load: Load, ask: Ask, body: str, answer: str) -> None:
    rows = pd.DataFrame({"a": [0.0, 10.0, 0.0], "b": [0.0, 0.0, 10.0]})
    model = LinearRegression().fit(rows, [0.4, 1.4, 0.4])
    service = load({"model.pkl": pickle.dumps(model)})
    said = json.loads(
        service.invoke(ask(body)).body, parse_float=lambda text: round(float(text), 6)
    )
    assert said == json.loads(answer)


def test_the_page_has_all_shapes() -> None:
    assert len(rows_of_the_page()) >= 7
