"""docs/how-to/migrate-from-multi-model-server.md, row by row, by its archives on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from container.environment import settings_from
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions
from model_server.settings import Settings

from .conftest import Old
from .tables import Rows

rows = Rows("how-to/migrate-from-multi-model-server.md")

SERVICE = """
import json
calls = []
def handle(data, context):
    calls.append(data is None)
    if data is None:
        return None
    return [json.dumps(TOLD) for row in data]
"""
SCRIPT = """
import json
def model_fn(model_dir): return 2
def input_fn(body, content_type): return json.loads(body)
def predict_fn(data, model): return [x * model for x in data]
def output_fn(prediction, accept): return json.dumps([accept, prediction]), accept
"""


def manifest(handler: str = "service:handle") -> str:
    """What model-archiver writes."""
    return json.dumps(
        {"specificationVersion": "1.0", "model": {"modelName": "m", "handler": handler}}
    )


def archive(told: str) -> dict[str, str | bytes]:
    """An archive whose handler answers with the value of an expression."""
    return {"MAR-INF/MANIFEST.json": manifest(), "service.py": SERVICE.replace("TOLD", told)}


def told(old: Old, expression: str) -> Any:
    """What an expression in a handler is."""
    return old.answer(old.load(archive(expression)), [1])


@rows("MAR-INF/MANIFEST.json", "model_name/", "handle", "signature.json")
def test_functions(old: Old) -> None:
    assert told(old, "[calls, type(row['body']).__name__]") == [[True, False], "bytearray"]
    inside: dict[str, str | bytes] = {f"m/{name}": text for name, text in archive("7").items()}
    assert old.answer(old.load(inside), [1]) == 7
    reading = "open(context.system_properties['model_dir'] + '/signature.json').read()"
    assert old.answer(old.load({**archive(reading), "signature.json": "s"}), [1]) == "s"


@rows("initialize", "DefaultHandlerService")
def test_classes(old: Old) -> None:
    code = """
class Service:
    def initialize(self, context): self.there = WITH
    def handle(self, data, context): return [self.there for row in data]
"""
    named = {"MAR-INF/MANIFEST.json": manifest("service")}
    assert (
        old.invoke(old.load({**named, "service.py": code.replace("WITH", "'yes'")}), "1").text
        == "yes"
    )
    answer = old.try_to_load({**named, "service.py": code.replace("WITH", "1 / 0")})
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["message"]

    toolkit = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer
class Mine(DefaultInferenceHandler):
    def default_model_fn(self, model_dir, context=None): return 3
    def default_predict_fn(self, data, model, context=None): return data * model
class Service(DefaultHandlerService):
    def __init__(self):
        super().__init__(transformer=Transformer(default_inference_handler=Mine()))
"""
    assert old.answer(old.load({**named, "service.py": toolkit}), [1, 2]) == [3, 6]


@rows("code/inference.py", "code/requirements.txt")
def test_scripts(old: Old) -> None:
    name = old.load({"code/inference.py": SCRIPT})
    assert old.answer(name, [1, 2])[1] == [2, 4]
    whole = (
        "def model_fn(d): return 2\ndef transform_fn(model, body, kind, accept): return 'all', kind"
    )
    assert old.invoke(old.load({"code/inference.py": whole}), "1", "text/plain").text == "all"
    files = {"code/inference.py": SCRIPT, "code/requirements.txt": "six"}
    assert inspect_model(old.put(files), HandlerOptions()).requirements is not None


@rows("context.system_properties", "context.get_request_header", "context.set_response_status")
@rows("context.set_response_content_type", "context.set_response_header", "PredictionException")
def test_contexts(old: Old) -> None:
    properties = told(old, "context.system_properties")
    assert {"model_dir", "gpu_id", "batch_size", "server_name"} <= properties.keys()
    code = """
from mms.service import PredictionException
def handle(data, context):
    if data is None: return None
    if context.get_request_header(0, "X-Mine") == "fail":
        raise PredictionException("too long", 413)
    context.set_response_status(201, "Made", 0)
    context.set_response_content_type(0, "text/x-mine")
    context.set_response_header(0, "X-Told", "yes")
    return ["done"]
"""
    name = old.load({"MAR-INF/MANIFEST.json": manifest(), "service.py": code})
    answer = old.invoke(name, "1")
    assert (answer.status_code, answer.text) == (201, "done")
    assert answer.headers["content-type"] == "text/x-mine"
    assert answer.headers["X-Told"] == "yes"
    answer = old.invoke(name, "1", **{"X-Mine": "fail"})
    assert answer.status_code == 413
    assert "too long" in answer.text


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "2", "min_workers", 2),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "30", "request_timeout_seconds", 30.0),
        ("SAGEMAKER_STARTUP_TIMEOUT", "70", "load_timeout_seconds", 70.0),
        ("SAGEMAKER_MODEL_JOB_QUEUE_SIZE", "7", "queue_size", 7),
        ("MMS_JOB_QUEUE_SIZE", "7", "queue_size", 7),
        ("SAGEMAKER_MAX_REQUEST_SIZE", "1000", "max_body_bytes", 1000),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", "max_body_bytes", 6 << 20),
    ],
)
@rows("SAGEMAKER_MODEL_SERVER_WORKERS", "SAGEMAKER_MODEL_SERVER_TIMEOUT", "MMS_JOB_QUEUE_SIZE")
@rows("SAGEMAKER_STARTUP_TIMEOUT", "SAGEMAKER_MODEL_JOB_QUEUE_SIZE")
@rows("SAGEMAKER_MAX_REQUEST_SIZE", "SAGEMAKER_MAX_PAYLOAD_IN_MB")
def test_variables_are_settings(variable: str, text: str, setting: str, value: object) -> None:
    assert getattr(settings_from(Settings, {variable: text}, {}), setting) == value


@rows("SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_MULTI_MODEL", "MMS_DEFAULT_WORKERS_PER_MODEL")
@rows("MMS_DEFAULT_RESPONSE_TIMEOUT", "MMS_MAX_REQUEST_SIZE", "MMS_DECODE_INPUT_REQUEST")
@rows("OMP_NUM_THREADS", "SAGEMAKER_HANDLER")
def test_variables_of_the_container(old_with: Callable[[Mapping[str, str]], Old]) -> None:
    old = old_with(  # which is told its port and mode by the first two
        {
            "MMS_DEFAULT_WORKERS_PER_MODEL": "2",
            "MMS_DEFAULT_RESPONSE_TIMEOUT": "30",
            "MMS_MAX_REQUEST_SIZE": "1000",
            "MMS_DECODE_INPUT_REQUEST": "true",
            "OMP_NUM_THREADS": "2",
            "SAGEMAKER_HANDLER": "service:handle",
        }
    )
    name = old.load({"service.py": SERVICE.replace("TOLD", "row['body']")})
    assert old.answer(name, [1]) == [1]
    settings = old.told(name)["settings"]
    expected = {"minWorkers": 2, "threads": 2, "requestTimeoutSeconds": 30.0}
    assert {key: settings[key] for key in expected} == expected
    assert old.invoke(name, b" " * 1001).status_code == 413


@rows("SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")
def test_one_script_for_all_models(
    old_with: Callable[[Mapping[str, str]], Old], tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine.py").write_text(SCRIPT)
    old = old_with(
        {
            "SAGEMAKER_PROGRAM": "mine.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": str(tmp_path / "shared"),
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/x-mine",
        }
    )
    answer = old.invoke(old.load({"weights.txt": ""}), "[1, 2]", Accept="")
    assert answer.json() == ["text/x-mine", [2, 4]]


def test_each_row_has_a_test() -> None:
    rows.check()
