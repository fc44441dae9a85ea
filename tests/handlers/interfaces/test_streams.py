from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from handlers.errors import HandlerError, InvalidOutput
from handlers.service import LoadedModel
from handlers.types import Request, Response

Load = Callable[..., LoadedModel]
Ask = Callable[..., Request]

MANIFEST = json.dumps({"model": {"modelName": "m", "handler": "service"}})
MODEL = "import pathlib\ndef model_fn(model_dir): return pathlib.Path(model_dir)\n"


def script(text: str) -> dict[str, str]:
    return {"code/inference.py": MODEL + text}


def service(text: str) -> dict[str, str]:
    return {"MAR-INF/MANIFEST.json": MANIFEST, "service.py": text}


def rest(response: Response) -> Generator[bytes, None, None]:
    assert response.stream is not None
    return response.stream


THREE = "yield 'a'; yield 'é'; yield 'c'"


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize(
    "text",
    [
        "{} predict_fn(data, model): " + THREE,
        "def predict_fn(data, model): return 1\n{} output_fn(prediction, accept): " + THREE,
        "{} transform_fn(model, data, content_type, accept): " + THREE,
    ],
)
def test_a_generator_becomes_a_stream(load: Load, ask: Ask, word: str, text: str) -> None:
    response = load(script(text.format(word))).invoke(ask("[1]"))
    assert (response.body, response.content_type) == (b"a", "text/plain")
    assert list(rest(response)) == ["é".encode(), b"c"]


def test_an_element_of_a_handlers_list_may_be_a_generator(load: Load, ask: Ask) -> None:
    model = load(
        service("""
async def chunks(body):
    yield body
    yield b"!"
def handle(data, context): return data and [chunks(row["body"]) for row in data]
""")
    )
    response = model.invoke(ask(b"x"))
    assert (response.body, response.content_type) == (b"x", "application/octet-stream")
    assert list(rest(response)) == [b"!"]


def test_anything_else_is_a_line_of_json(load: Load, ask: Ask) -> None:
    text = "def predict_fn(data, model): yield {'n': data}; yield float('nan'); yield 'text'"
    response = load(script(text)).invoke(ask("[1]"))
    assert (response.body, response.content_type) == (b'{"n": [1]}\n', "application/jsonlines")
    assert list(rest(response)) == [b"null\n", b"text"]


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("def output_fn(p, a): return iter(['x', 'y']), 'text/event-stream'", "text/event-stream"),
        (
            "def predict_fn(data, model, context):\n"
            "    context.set_response_content_type(0, 'text/x')\n"
            "    context.set_response_header(0, 'X-A', '1')\n"
            "    context.set_response_status(201)\n"
            "    yield 'x'\n    yield 'y'\n",
            "text/x",
        ),
    ],
)
def test_content_type_headers_and_status_are_the_authors(
    load: Load, ask: Ask, text: str, content_type: str
) -> None:
    response = load(script("def input_fn(d, c): pass\n" + with_predict(text))).invoke(ask(""))
    assert response.content_type == content_type
    assert list(rest(response)) == [b"y"]
    if content_type == "text/x":
        assert (response.status, response.headers) == (201, (("X-A", "1"),))


def with_predict(text: str) -> str:
    return text if "predict_fn" in text else text + "\ndef predict_fn(data, model): pass\n"


def test_an_output_fn_of_the_authors_own_gets_the_generator_as_it_is(load: Load, ask: Ask) -> None:
    model = load(
        script("""
def predict_fn(data, model): yield from data
def output_fn(prediction, accept): return ",".join(str(n) for n in prediction)
""")
    )
    response = model.invoke(ask("[1, 2]"))
    assert (response.body, response.stream) == (b"1,2", None)


def test_an_exception_before_the_first_chunk_has_its_status(load: Load, ask: Ask) -> None:
    model = load(
        script("""
class Busy(Exception): status_code = 429
def predict_fn(data, model):
    raise Busy("later")
    yield "never"
""")
    )
    with pytest.raises(HandlerError) as caught:
        model.invoke(ask("[1]"))
    assert (caught.value.status, caught.value.message) == (429, "Busy: later")


@pytest.mark.parametrize("word", ["def", "async def"])
def test_an_exception_in_the_middle_comes_out_of_the_stream(
    load: Load, ask: Ask, word: str
) -> None:
    text = f"{word} predict_fn(data, model):\n    yield 'a'\n    raise ValueError('bad')\n"
    response = load(script(text)).invoke(ask("[1]"))
    with pytest.raises(HandlerError, match="ValueError: bad") as caught:
        list(rest(response))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_chunk_that_cannot_be_sent_is_an_error_of_the_model(load: Load, ask: Ask) -> None:
    model = load(script("def predict_fn(data, model): yield 'a'; yield object()"))
    with pytest.raises(InvalidOutput, match="yielded a object"):
        list(rest(model.invoke(ask("[1]"))))
    model = load(script("def predict_fn(data, model): yield object()"))
    with pytest.raises(InvalidOutput, match="yielded a object"):
        model.invoke(ask("[1]"))


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize("taken", [0, 1])
def test_closing_ends_the_generator(load: Load, ask: Ask, word: str, taken: int) -> None:
    model = load(
        script(f"""
{word} predict_fn(data, model):
    try:
        for n in range(9): yield str(n)
    finally:
        (model / "ended").write_text(str(n))
""")
    )
    response = model.invoke(ask("[1]"))
    stream = rest(response)
    for _ in range(taken):
        next(stream)
    stream.close()
    assert Path(load_dir(model, ask), "ended").read_text() == str(taken)
    assert list(stream) == []


def load_dir(model: LoadedModel, ask: Ask) -> str:
    """Where the model lies: its own context says so."""
    return str(model._service._model)  # type: ignore[attr-defined]


def test_an_exception_while_closing_is_nobodys_answer(
    load: Load, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(
        script("""
def predict_fn(data, model):
    try: yield "a"
    finally: raise ValueError("cannot end")
""")
    )
    rest(model.invoke(ask("[1]"))).close()
    assert "raised while it was closed" in caplog.text


def test_an_empty_generator_is_an_empty_body(load: Load, ask: Ask) -> None:
    response = load(script("def predict_fn(data, model): yield from ()")).invoke(ask("[1]"))
    assert (response.body, response.stream, response.status) == (b"", None, 200)


def test_iterators_stream_but_lists_and_files_do_not(load: Load, ask: Ask) -> None:
    model = load(script("def predict_fn(data, model): return map(str, data)"))
    assert list(rest(model.invoke(ask("[1, 2]")))) == [b"2"]
    model = load(script("def predict_fn(data, model): return ['a', 'b']"))
    assert model.invoke(ask("[1]")).body == b'["a", "b"]'
    model = load(
        script(
            "import io\ndef output_fn(p, accept): return io.StringIO('a')\n"
            "def predict_fn(data, model): pass"
        )
    )
    with pytest.raises(InvalidOutput, match="StringIO"):
        model.invoke(ask("[1]"))


def test_streams_of_a_batch_keep_their_requests(load: Load, ask: Ask) -> None:
    model = load(
        script("""
def model_fn(model_dir): return lambda data: data
def output_fn(prediction, accept, context):
    for n in range(2): yield context.get_request_header(0, "x-n")
""")
    )
    batch = [ask("[[1]]", x_n=name) for name in "ab"]
    for name, answer in zip("ab", model.invoke_batch(batch), strict=True):
        assert isinstance(answer, Response)
        assert [answer.body, *rest(answer)] == [name.encode()] * 2
