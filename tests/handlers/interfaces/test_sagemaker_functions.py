from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import (
    InvalidInput,
    InvalidOutput,
    ModelLoadError,
    NotAcceptable,
    UnsupportedContentType,
)
from handlers.types import HandlerOptions, Request, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

MODEL = "def model_fn(model_dir): return len\n"
ECHO = f"""{MODEL}
def transform_fn(model, data, content_type, accept): return [repr(data), content_type, accept]
"""


def script(text: str) -> dict[str, str]:
    return {"code/inference.py": text}


def test_input_predict_and_output_are_called_in_turn(load: Load, ask: Ask) -> None:
    service = load(
        script("""
def model_fn(model_dir): return {"dir": model_dir}
def input_fn(data, content_type): return [data, content_type]
def predict_fn(data, model): return [data, sorted(model)]
def output_fn(prediction, accept): return repr([prediction, accept])
""")
    )
    response = service.invoke(ask("1", "text/csv", "text/plain"))
    assert response.body == b"[[['1', 'text/csv'], ['dir']], 'text/plain']"
    assert response.content_type == "text/plain"


def test_load_functions_are_called_in_turn_with_the_directory_and_the_model(
    load: Load, ask: Ask
) -> None:
    service = load(
        script("""
calls = []
def pre_model_fn(model_dir): calls.append(["pre", model_dir])
def model_fn(model_dir): calls.append(["model", model_dir]); return "it"
def model_warmup_fn(model_dir, model): calls.append(["warmup", model_dir, model])
def transform_fn(model, data, content_type, accept): return [[c[0], *c[2:]] for c in calls]
""")
    )
    assert json.loads(service.invoke(ask("")).body) == [["pre"], ["model"], ["warmup", "it"]]


def test_every_function_may_take_the_context(load: Load, ask: Ask) -> None:
    service = load(
        script("""
seen = []
def pre_model_fn(model_dir, context): seen.append(context.model_name)
def model_fn(model_dir, context): seen.append(context.system_properties["model_dir"] == model_dir)
def model_warmup_fn(model_dir, model, context): seen.append(context.get_request_header(0, "x"))
def input_fn(data, content_type, context): return [context.get_request_id()]
def predict_fn(data, model, context): return [*data, context.get_request_header(0, "X-Tenant")]
def output_fn(prediction, accept, context): return [*seen, *prediction, context.model_name]
""")
    )
    response = service.invoke(ask("", x_tenant="blue"))
    assert json.loads(response.body) == ["m", True, None, "r-1", "blue", "m"]


def test_the_context_is_of_this_request_also_where_it_was_kept_at_load_time(
    load: Load, ask: Ask
) -> None:
    service = load(
        script("""
def model_fn(model_dir, context): return context
def transform_fn(model, data, content_type, accept, context):
    return [c.get_request_header(0, "x-n") for c in (model, context)]
""")
    )
    for number in "12":
        assert json.loads(service.invoke(ask("", x_n=number)).body) == [number, number]


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("text/csv", "str"),
        ("Text/CSV; charset=utf-8", "str"),
        ("", "str"),
        ("text/plain", "bytes"),
        ("application/x-npy", "bytes"),
        ("image/png", "bytes"),
    ],
)
def test_json_and_csv_come_as_str_and_all_else_as_bytes(
    load: Load, ask: Ask, content_type: str, kind: str
) -> None:
    response = load(script(ECHO)).invoke(ask(b"1", content_type))
    assert json.loads(response.body)[0] == repr("1" if kind == "str" else b"1")


def test_a_charset_is_applied_and_taken_off_other_parameters_stay(load: Load, ask: Ask) -> None:
    service = load(script(ECHO))
    response = service.invoke(ask(b"\xe9", "text/csv; charset=latin-1; header=present"))
    assert json.loads(response.body)[:2] == ["'é'", "text/csv; header=present"]
    content_type = "multipart/form-data; boundary=xyz"
    assert json.loads(service.invoke(ask(b"", content_type)).body)[1] == content_type


def test_a_missing_content_type_is_json(load: Load, ask: Ask) -> None:
    assert json.loads(load(script(ECHO)).invoke(ask("")).body)[1] == "application/json"


def test_text_that_is_not_in_its_charset_is_400(load: Load, ask: Ask) -> None:
    with pytest.raises(InvalidInput, match="not valid utf-8"):
        load(script(ECHO)).invoke(ask(b"\xff", "text/csv"))


@pytest.mark.parametrize(
    ("accept", "passed"),
    [
        ("", "text/csv"),
        ("*/*", "text/csv"),
        ("image/png;q=0.5, text/html", "image/png;q=0.5, text/html"),
    ],
)
def test_accept_is_passed_as_sent_unless_it_leaves_the_choice(
    load: Load, ask: Ask, options: HandlerOptions, accept: str, passed: str
) -> None:
    settings = dataclasses.replace(options, default_accept="text/csv")
    response = load(script(ECHO), settings).invoke(ask("", accept=accept))
    assert json.loads(response.body)[2] == passed


@pytest.mark.parametrize(
    ("result", "accept", "content_type"),
    [
        ("'text'", "", "application/json"),
        ("'text'", "text/csv", "text/csv"),
        ("'text'", "text/csv;q=0.1, image/png", "image/png"),
        ("'text'", "text/*", "application/json"),
        ("b'text'", "image/png", "image/png"),
        ("('text', 'text/html')", "text/csv", "text/html"),
        ("context.set_response_content_type(0, 'text/x') or 'text'", "text/csv", "text/x"),
        ("context.set_response_content_type(0, 'text/x') or ('a', 'b/c')", "text/csv", "b/c"),
        ("{'a': 1}", "text/csv", "application/json"),
    ],
)
@pytest.mark.parametrize("function", ["output_fn(p, accept", "transform_fn(m, data, ct, accept"])
def test_the_content_type_is_the_pairs_or_the_contexts_or_the_accepted(
    load: Load, ask: Ask, function: str, result: str, accept: str, content_type: str
) -> None:
    service = load(script(f"{MODEL}def {function}, context): return {result}\n"))
    assert service.invoke(ask("[1]", accept=accept)).content_type == content_type


def test_status_and_headers_set_on_the_context_are_sent(load: Load, ask: Ask) -> None:
    service = load(
        script(
            MODEL
            + """
def predict_fn(data, model, context):
    context.set_response_status(202)
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "trace=1")
    context.set_response_content_type(0, "application/vnd.mine+json")
    return data
"""
        )
    )
    response = service.invoke(ask("[1]"))
    assert (response.status, response.content_type) == (202, "application/vnd.mine+json")
    assert response.headers == (("X-Amzn-SageMaker-Custom-Attributes", "trace=1"),)


@pytest.mark.parametrize("result", ["('a',)", "('a', 'b', 'c')", "('a', 5)", "()", "object()"])
def test_an_output_that_cannot_be_sent_is_an_error_of_the_model(
    load: Load, ask: Ask, result: str
) -> None:
    service = load(script(f"{MODEL}def output_fn(p, accept): return {result}\n"))
    with pytest.raises(InvalidOutput):
        service.invoke(ask("[1]"))


def test_missing_functions_are_the_frameworks(load: Load, ask: Ask) -> None:
    service = load(script(MODEL))
    assert service.invoke(ask("[1, 2, 3]")).body == b"3"
    assert service.invoke(ask("1,2\n3,4\n", "text/csv", "text/plain")).body == b"2"
    with pytest.raises(UnsupportedContentType):
        service.invoke(ask("", "image/png"))
    with pytest.raises(NotAcceptable):
        service.invoke(ask("[1]", accept="image/png"))


@pytest.mark.parametrize("other", ["input_fn", "predict_fn", "output_fn"])
def test_transform_fn_excludes_the_three_it_replaces(load: Load, other: str) -> None:
    with pytest.raises(ModelLoadError, match=f"but also {other}"):
        load(script(f"{ECHO}def {other}(a, b): return a\n"))


def test_functions_may_be_imported_or_made(load: Load, ask: Ask) -> None:
    files = {
        "code/inference.py": "from functools import partial\nimport helper\n"
        "from helper import model_fn\npredict_fn = partial(helper.scale, by=3)\n",
        "code/helper.py": "def model_fn(d): return 2\n"
        "def scale(data, model, by): return data * model * by\n",
    }
    assert load(files).invoke(ask("[1]")).body == b"[6]"


def test_a_wrong_signature_fails_the_load(load: Load) -> None:
    with pytest.raises(ModelLoadError, match=r"predict_fn\(data\) must take \(data, model\)"):
        load(script(MODEL + "def predict_fn(data): return data\n"))


def test_without_model_fn_and_artifact_the_load_says_so(load: Load) -> None:
    with pytest.raises(ModelLoadError, match=r"inference.py defines no model_fn"):
        load(script("def predict_fn(data, model): return data\n"))


def test_without_model_fn_the_artifact_is_loaded_by_its_framework(
    load: Load, ask: Ask, tmp_path: Path
) -> None:
    from joblib import dump
    from sklearn.dummy import DummyRegressor

    dump(DummyRegressor(strategy="constant", constant=4.0).fit([[0]], [0]), tmp_path / "a")
    files: dict[str, Any] = {"model.joblib": (tmp_path / "a").read_bytes()}
    files["code/inference.py"] = "def output_fn(prediction, accept): return str(prediction)\n"
    assert load(files).invoke(ask("[[1]]")).body == b"[4.]"


def test_a_response_of_flask_is_taken_apart(load: Load, ask: Ask) -> None:
    service = load(
        script("""
import flask
def model_fn(model_dir): pass
def transform_fn(model, data, content_type, accept):
    return flask.Response("a,b", status=206, headers={"X-A": "1"}, mimetype="text/csv")
""")
    )
    response = service.invoke(ask(""))
    assert (response.body, response.status) == (b"a,b", 206)
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers == (("X-A", "1"),)
