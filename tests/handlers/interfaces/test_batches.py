from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from handlers.errors import HandlerError, InvalidOutput
from handlers.service import LoadedModel
from handlers.types import Request, Response

Load = Callable[..., LoadedModel]
Ask = Callable[..., Request]

MANIFEST = json.dumps({"model": {"modelName": "m", "handler": "service"}})

# Answers each row with the number of rows that it was predicted with.
COUNTS = """
import numpy as np
def model_fn(model_dir): return lambda data: np.full((len(data), 1), len(data))
"""


def script(text: str) -> dict[str, str]:
    return {"code/inference.py": text}


def service(text: str) -> dict[str, str]:
    return {"MAR-INF/MANIFEST.json": MANIFEST, "service.py": text}


def told(answers: Sequence[Response | HandlerError]) -> list[str]:
    """The bodies of what succeeded, the statuses of what did not."""
    return [
        str(answer.status) if isinstance(answer, HandlerError) else answer.body.decode()
        for answer in answers
    ]


def test_tables_are_predicted_together_and_answered_apart(load: Load, ask: Ask) -> None:
    model = load(script(COUNTS))
    assert model.takes_batches
    batch = [ask("[[1, 2]]"), ask("[[1, 2], [3, 4]]"), ask("1,2\n", "text/csv", "text/csv")]
    answers = model.invoke_batch(batch)
    assert told(answers) == ["[[3]]", "[[3], [3]]", "1\n"]  # CSV is read as floats
    assert [a.content_type for a in answers if isinstance(a, Response)][2] == "text/csv"


def test_what_does_not_fit_together_goes_in_groups_or_alone(load: Load, ask: Ask) -> None:
    batch = [ask(b) for b in ("[[1]]", "[[1, 2]]", "[[3]]", "[1, 2]", "[3, 4]", "[[1.5]]")]
    answers = load(script(COUNTS)).invoke_batch(batch)
    assert told(answers) == ["[[2]]", "[[1]]", "[[2]]", "[[2], [2]]", "[[2], [2]]", "[[1]]"]


def test_a_bad_body_fails_alone(load: Load, ask: Ask) -> None:
    batch = [ask("[[1]]"), ask("[["), ask("[[1]]"), ask("", "image/png"), ask("[[1]]", "", "a/b")]
    answers = load(script(COUNTS)).invoke_batch(batch)
    assert told(answers) == ["[[3]]", "400", "[[3]]", "415", "406"]


def test_a_row_that_the_model_cannot_predict_fails_alone(load: Load, ask: Ask) -> None:
    text = """
def model_fn(model_dir): return check
def check(data):
    if data.min() < 0: raise ValueError("negative")
    return data
"""
    answers = load(script(text)).invoke_batch([ask("[[1]]"), ask("[[-1]]"), ask("[[2]]")])
    assert told(answers) == ["[[1]]", "500", "[[2]]"]
    assert isinstance(answers[1], HandlerError)
    assert isinstance(answers[1].__cause__, ValueError)


def test_a_model_that_gives_not_one_row_for_each_is_asked_one_by_one(load: Load, ask: Ask) -> None:
    model = load(script("def model_fn(model_dir): return lambda data: float(data.sum())"))
    assert told(model.invoke_batch([ask("[[1]]"), ask("[[2]]")])) == ["1.0", "2.0"]
    assert not model.takes_batches


def test_the_context_is_that_of_each_request_at_each_step(load: Load, ask: Ask) -> None:
    text = (
        COUNTS
        + """
def input_fn(data, content_type, context):
    name = context.get_request_header(0, "x-n")
    context.set_response_header(0, "X-In", name)
    return np.array([[ord(name)]])
def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Out", context.get_request_header(0, "x-n"))
    context.set_response_status(ord(context.get_request_id()) + 200)
    return "ok"
"""
    )
    batch = [
        Request(b"", ask("", x_n=name).headers, request_id=chr(number))
        for number, name in enumerate("abc")
    ]
    for number, answer in enumerate(load(script(text)).invoke_batch(batch)):
        assert isinstance(answer, Response)
        assert answer.headers == (("X-In", "abc"[number]), ("X-Out", "abc"[number]))
        assert answer.status == 200 + number


@pytest.mark.parametrize(
    "text",
    [
        "def predict_fn(data, model): return data",
        "def transform_fn(model, data, content_type, accept): return data",
    ],
)
def test_an_author_who_predicts_gets_one_request_at_a_time(load: Load, ask: Ask, text: str) -> None:
    model = load(script(f"def model_fn(model_dir): pass\n{text}\n"))
    assert not model.takes_batches
    assert told(model.invoke_batch([ask("[[1]]"), ask("[[2]]")])) == ["[[1]]", "[[2]]"]


def test_tensors_are_stacked_too(load: Load, ask: Ask) -> None:
    model = load(
        script("""
import torch
def model_fn(model_dir): return lambda data: torch.zeros(len(data), 1) + len(data)
""")
    )
    answers = model.invoke_batch([ask("[[1]]"), ask("[[1], [2]]")])
    assert told(answers) == ["[[3.0]]", "[[3.0], [3.0]]"]


def test_a_handler_of_lists_gets_the_batch(load: Load, ask: Ask) -> None:
    model = load(
        service("""
def handle(data, context):
    if data is None: return
    for idx in range(len(data)):
        context.set_response_status(200 + idx, idx=idx)
    names = [context.get_request_header(idx, "x-n") for idx in range(len(data))]
    return [f"{name}{len(data)}" for name in names]
""")
    )
    answers = model.invoke_batch([ask("", x_n="a"), ask("", x_n="b")])
    assert told(answers) == ["a2", "b2"]
    assert [answer.status for answer in answers] == [200, 201]


def test_an_element_that_is_an_exception_fails_alone(load: Load, ask: Ask) -> None:
    model = load(
        service("""
class Bad(Exception): status_code = 422
def handle(data, context): return data and [Bad("no"), "fine", object(), "fine"]
""")
    )
    assert told(model.invoke_batch([ask(b"")] * 4)) == ["422", "fine", "500", "fine"]


@pytest.mark.parametrize("result", ["['one']", "['a'] * 3", "'text'", "None"])
def test_the_wrong_number_of_answers_fails_all_and_is_not_tried_again(
    load: Load, ask: Ask, result: str
) -> None:
    model = load(
        service(f"""
calls = []
def handle(data, context):
    if data is None: return
    calls.append(1)
    return {result} if len(data) > 1 else [len(calls)]
""")
    )
    answers = model.invoke_batch([ask(b""), ask(b"")])
    assert all(isinstance(answer, InvalidOutput) for answer in answers)
    assert model.invoke(ask(b"")).body == b"2"


def test_a_batch_that_raises_is_tried_one_by_one(load: Load, ask: Ask) -> None:
    model = load(
        service("def handle(data, context): return data and [1 / int(r['body']) for r in data]")
    )
    assert told(model.invoke_batch([ask(b"1"), ask(b"0"), ask(b"2")])) == ["1.0", "500", "0.5"]
