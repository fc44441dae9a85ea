from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from handlers.errors import HandlerError, InvalidOutput, ModelLoadError
from handlers.types import Request, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

MANIFEST = json.dumps({"model": {"modelName": "m", "handler": "service"}})


def service(text: str) -> dict[str, str]:
    return {"MAR-INF/MANIFEST.json": MANIFEST, "service.py": text}


def test_a_function_is_called_with_none_at_load_and_with_a_batch_after(
    load: Load, ask: Ask
) -> None:
    model = load(
        service("""
calls = []
def handle(data, context):
    calls.append(data)
    return [f"{calls[0]} {len(calls)} {type(data[0]['body']).__name__}"] if data else None
""")
    )
    assert model.invoke(ask(b"x")).body == b"None 2 bytearray"
    assert model.invoke(ask(b"x")).body == b"None 3 bytearray"


def test_a_class_is_initialized_once_and_then_handles(load: Load, ask: Ask) -> None:
    model = load(
        service("""
class Handler:
    def initialize(self, context):
        self.context = context
        self.manifest = context.manifest["model"]["modelName"]
    def handle(self, data, context):
        context.set_response_content_type(0, "text/csv")
        assert self.context is context
        return [f"{self.manifest},{self.context.get_request_header(0, 'x-n')}"]
""")
    )
    for number in "12":
        response = model.invoke(ask(b"", x_n=number))
        assert response.body == f"m,{number}".encode()
        assert response.content_type == "text/csv"


def test_a_class_needs_no_initialize(load: Load, ask: Ask) -> None:
    model = load(
        service("class H:\n    def handle(self, data, context): return data[0].keys().__len__(),")
    )
    with pytest.raises(InvalidOutput, match="returned a tuple"):
        model.invoke(ask(b""))


def test_a_module_with_both_is_served_by_the_function(load: Load, ask: Ask) -> None:
    model = load(
        service("""
class Handler:
    ready = False
    def initialize(self, context): self.ready = True
    def handle(self, data, context): return [f"ready {self.ready}"]
_service = Handler()
def handle(data, context):
    if not _service.ready: _service.initialize(context)
    return None if data is None else _service.handle(data, context)
""")
    )
    assert model.invoke(ask(b"")).body == b"ready True"


def test_helper_classes_and_imported_classes_do_not_count(load: Load, ask: Ask) -> None:
    model = load(
        service("""
from collections import OrderedDict
class Helper: pass
class Handler:
    def handle(self, data, context): return ["handled"]
""")
    )
    assert model.invoke(ask(b"")).body == b"handled"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "none"),
        ("class A: pass", "A"),
        (
            "class A:\n  def handle(self, d, c): pass\nclass B:\n  def handle(self, d, c): pass",
            "A, B",
        ),
    ],
)
def test_a_module_without_one_handler_is_refused_with_what_it_has(
    load: Load, text: str, found: str
) -> None:
    with pytest.raises(ModelLoadError, match=f"classes are: {found}"):
        load(service(text))


@pytest.mark.parametrize(
    ("result", "body", "content_type"),
    [
        ("'é'", "é".encode(), "text/plain"),
        ("b'a'", b"a", "application/octet-stream"),
        ("bytearray(b'a')", b"a", "application/octet-stream"),
        ("{'a': 1}", b'{"a": 1}', "application/json"),
        ("[1, 2]", b"[1, 2]", "application/json"),
    ],
)
def test_elements_may_be_text_bytes_or_json(
    load: Load, ask: Ask, result: str, body: bytes, content_type: str
) -> None:
    response = load(service(f"def handle(data, context): return [{result}]")).invoke(ask(b""))
    assert (response.body, response.content_type) == (body, content_type)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("'text'", "returned a str; it must return a list"),
        ("None", "returned a NoneType"),
        ("[]", "returned 0 elements for 1 requests"),
        ("[1, 2]", "returned 2 elements"),
        ("[object()]", "returned a object"),
    ],
)
def test_a_result_that_is_no_list_of_answers_is_an_error_of_the_model(
    load: Load, ask: Ask, result: str, reason: str
) -> None:
    model = load(service(f"def handle(data, context): return {result}"))
    with pytest.raises(InvalidOutput, match=reason):
        model.invoke(ask(b""))


@pytest.mark.parametrize(
    "text",
    [
        "def handle(data, context): return len(data)",
        "class H:\n  def initialize(self, context): len(None)\n  def handle(self, d, c): pass",
        "class H:\n  def __init__(self): len(None)\n  def handle(self, d, c): pass",
        "len(None)",
    ],
)
def test_an_exception_in_any_part_of_the_load_fails_it(load: Load, text: str) -> None:
    with pytest.raises(ModelLoadError, match="TypeError: object of type 'NoneType'") as caught:
        load(service(text))
    assert caught.value.status == 500
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize(
    "text",
    [
        "def handle(data, context): raise MemoryError",
        "class H:\n  def __init__(self): raise MemoryError\n  def handle(self, d, c): pass",
    ],
)
def test_lack_of_memory_at_load_is_507_in_both_styles(load: Load, text: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        load(service(text))
    assert caught.value.status == 507


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        ("PredictionException('too long', 513)", 513, "too long"),
        ("PredictionException('broken')", 500, "broken"),
        ("ValueError('bad')", 500, "ValueError: bad"),
        ("MemoryError()", 507, "MemoryError"),
    ],
)
def test_exceptions_of_the_handler_become_errors_for_the_client(
    load: Load, ask: Ask, raised: str, status: int, message: str
) -> None:
    model = load(
        service(f"""
class PredictionException(Exception):
    def __init__(self, message, error_code=500):
        self.message, self.error_code = message, error_code
def handle(data, context):
    if data: raise {raised}
""")
    )
    with pytest.raises(HandlerError) as caught:
        model.invoke(ask(b""))
    assert (caught.value.status, caught.value.message) == (status, message)


def test_status_and_headers_set_on_the_context_are_sent(load: Load, ask: Ask) -> None:
    model = load(
        service("""
def handle(data, context):
    if data is None: return
    context.set_response_status(code=404, phrase="nothing", idx=0)
    context.set_response_header(0, "X-A", "a")
    return ["none"]
""")
    )
    response = model.invoke(ask(b""))
    assert (response.status, response.headers) == (404, (("X-A", "a"),))


def test_a_handler_may_lie_in_a_package(load: Load, ask: Ask) -> None:
    files: dict[str, Any] = {
        "MAR-INF/MANIFEST.json": json.dumps({"model": {"handler": "pkg_of_test.service:go"}}),
        "pkg_of_test/__init__.py": "",
        "pkg_of_test/service.py": "from .net import N\ndef go(data, context): return [N]",
        "pkg_of_test/net.py": "N = 'net'",
    }
    assert load(files).invoke(ask(b"")).body == b"net"
