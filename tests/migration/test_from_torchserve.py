"""docs/how-to/migrate-from-torchserve.md, row by row, by archives on a real server."""

from __future__ import annotations

import io
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

rows = Rows("how-to/migrate-from-torchserve.md")

HANDLER = """
class Handler:
    def initialize(self, context):
        self.context = context
    def handle(self, data, context):
        return [{"told": TOLD} for row in data]
"""
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x): return x * self.scale
"""
BASE = """
import torch
from ts.torch_handler.base_handler import BaseHandler
class Doubles(BaseHandler):
    def preprocess(self, data):
        return torch.tensor([row.get("data") or row.get("body") for row in data])
    def postprocess(self, data):
        return [{"doubled": row} for row in data.tolist()]
"""


def manifest(**model: str) -> str:
    """What torch-model-archiver writes."""
    model = {"modelName": "net", "modelVersion": "1.0", "handler": "handler.py", **model}
    return json.dumps({"runtime": "python", "model": model, "archiverVersion": "0.12.0"})


def archive(told: str, config: str = "", **model: str) -> dict[str, str | bytes]:
    """An archive whose handler answers with the value of an expression."""
    files: dict[str, str | bytes] = {"handler.py": HANDLER.replace("TOLD", told)}
    if config:
        files["model-config.yaml"] = config
    return {"MAR-INF/MANIFEST.json": manifest(**model), **files}


def told(old: Old, expression: str, config: str = "", **model: str) -> Any:
    """What an expression in a handler is."""
    return old.answer(old.load(archive(expression, config, **model)), [1])["told"]


@pytest.fixture(scope="module")
def weights() -> bytes:
    """A state dict that doubles."""
    import torch

    file = io.BytesIO()
    torch.save({"scale": torch.tensor([2.0])}, file)
    return file.getvalue()


@rows("handler", "initialize", "handle", "modelName", "modelVersion")
def test_handlers_by_file_function_and_class(old: Old) -> None:
    function = "def answer(data, context): return ['by function' for row in data or ()]"
    for handler, code, expected in (
        ("handler.py", HANDLER.replace("TOLD", "row['body']"), {"told": [1]}),
        ("handler.py:Handler", HANDLER.replace("TOLD", "'class'"), {"told": "class"}),
    ):
        name = old.load({"MAR-INF/MANIFEST.json": manifest(handler=handler), "handler.py": code})
        assert old.answer(name, [1]) == expected
    files = {"MAR-INF/MANIFEST.json": manifest(handler="handler:answer"), "handler.py": function}
    assert old.invoke(old.load(files), "[1]").text == "by function"
    model = told(old, "context.manifest['model']")
    assert (model["modelName"], model["modelVersion"]) == ("net", "1.0")
    failing = HANDLER.replace("self.context = context", "raise OSError('no disk')")
    answer = old.try_to_load({"MAR-INF/MANIFEST.json": manifest(), "handler.py": failing})
    assert answer.status_code == 500
    assert "no disk" in answer.json()["message"]


@rows("serializedFile", "modelFile", "preprocess", "inference", "postprocess")
def test_base_handlers(old: Old, weights: bytes) -> None:
    files: dict[str, str | bytes] = {"net.pt": weights, "net.py": NET, "handler.py": BASE}
    named = {"serializedFile": "net.pt", "modelFile": "net.py"}
    name = old.load({"MAR-INF/MANIFEST.json": manifest(**named), **files})
    assert old.answer(name, [1.5]) == {"doubled": [3.0]}


@rows("base_handler", "image_classifier")
def test_torchserves_own_handlers(old: Old) -> None:
    import torch
    from PIL import Image

    file = io.BytesIO()
    torch.save({"scale": torch.tensor([2.0])}, file)
    named = {"serializedFile": "net.pt", "modelFile": "net.py"}
    files: dict[str, str | bytes] = {"net.pt": file.getvalue(), "net.py": NET}
    base = {**files, "MAR-INF/MANIFEST.json": manifest(handler="base_handler", **named)}
    assert old.answer(old.load(base), [1.5, 2]) == [3.0, 4.0]

    net = NET.replace("return x * self.scale", "return x.mean(dim=(2, 3)) * self.scale")
    image = io.BytesIO()
    Image.new("RGB", (300, 260), "red").save(image, "PNG")
    classes = json.dumps(
        {str(number): name for number, name in enumerate(("red", "green", "blue"))}
    )
    files |= {"net.py": net, "index_to_name.json": classes}
    own = {**files, "MAR-INF/MANIFEST.json": manifest(handler="image_classifier", **named)}
    answer = old.invoke(old.load(own), image.getvalue(), "image/png")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert max(found, key=found.__getitem__) == "red"


@rows("requirementsFile")
def test_requirements(old: Old) -> None:
    files = archive("1", requirementsFile="needs.txt")
    plan = inspect_model(old.put({**files, "needs.txt": "six"}), HandlerOptions())
    assert plan.requirements is not None
    assert Path(plan.requirements.file or "").name == "needs.txt"


@rows("configFile")
def test_a_config_file_of_another_name(old: Old) -> None:
    name = old.load({**archive("1", configFile="mine.yaml"), "mine.yaml": "minWorkers: 2"})
    assert old.told(name)["settings"]["minWorkers"] == 2


@rows("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "deviceType")
@rows("handler.key", "parallelType", "torchrun")
def test_model_config(old: Old) -> None:
    config = """
minWorkers: 1
maxWorkers: 3
batchSize: 4
maxBatchDelay: 50
responseTimeout: 20
deviceType: cpu
parallelType: pp
torchrun: {nproc-per-node: 4}
handler: {key: value}
"""
    found = told(old, "context.model_yaml_config", config)
    assert found["handler"] == {"key": "value"}
    assert found["torchrun"] == {"nproc-per-node": 4}
    settings = old.told(old.loaded[-1])["settings"]
    expected = {"minWorkers": 1, "maxWorkers": 3, "batchSize": 4, "maxBatchDelayMs": 50.0}
    expected |= {"requestTimeoutSeconds": 20.0}
    assert {key: settings[key] for key in expected} == expected
    assert settings["device"] == "cpu"
    name = old.load(archive("1", "deviceType: gpu"))
    assert old.told(name)["settings"]["device"] == "auto"


@rows("context.system_properties", "context.get_request_header")
def test_contexts(old: Old) -> None:
    properties = told(old, "context.system_properties")
    assert properties["model_dir"].endswith(old.loaded[-1])
    assert {"gpu_id", "batch_size"} <= properties.keys()
    name = old.load(archive("context.get_request_header(0, 'X-Mine')"))
    assert old.invoke(name, "[1]", **{"X-Mine": "yes"}).json() == {"told": "yes"}


@rows("context.set_response_status", "context.set_response_content_type", "PredictionException")
def test_answers_of_handlers(old: Old) -> None:
    code = """
from ts.utils.util import PredictionException
class Handler:
    def initialize(self, context): pass
    def handle(self, data, context):
        if data[0]["body"] == "fail":
            raise PredictionException("too long", 413)
        context.set_response_status(201, "", 0)
        context.set_response_content_type(0, "text/x-mine")
        return ["done"]
"""
    name = old.load({"MAR-INF/MANIFEST.json": manifest(), "handler.py": code})
    answer = old.invoke(name, "go", "text/plain")
    assert (answer.status_code, answer.text) == (201, "done")
    assert answer.headers["content-type"] == "text/x-mine"
    answer = old.invoke(name, "fail", "text/plain")
    assert answer.status_code == 413
    assert "too long" in answer.text


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("TS_DEFAULT_WORKERS_PER_MODEL", "2", "min_workers", 2),
        ("TS_DEFAULT_RESPONSE_TIMEOUT", "30", "request_timeout_seconds", 30.0),
        ("TS_JOB_QUEUE_SIZE", "7", "queue_size", 7),
        ("TS_MAX_REQUEST_SIZE", "1000", "max_body_bytes", 1000),
        ("SAGEMAKER_TS_MIN_WORKERS", "2", "min_workers", 2),
        ("SAGEMAKER_TS_MAX_WORKERS", "4", "max_workers", 4),
        ("SAGEMAKER_TS_BATCH_SIZE", "8", "batch_size", 8),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "20", "max_batch_delay_ms", 20.0),
        ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "30", "request_timeout_seconds", 30.0),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "2", "min_workers", 2),
    ],
)
@rows("SAGEMAKER_TS_MIN_WORKERS", "SAGEMAKER_TS_RESPONSE_TIMEOUT", "TS_JOB_QUEUE_SIZE")
@rows("SAGEMAKER_MODEL_SERVER_WORKERS")
def test_variables_are_settings(variable: str, text: str, setting: str, value: object) -> None:
    assert getattr(settings_from(Settings, {variable: text}, {}), setting) == value


@rows("TS_DEFAULT_WORKERS_PER_MODEL", "TS_DEFAULT_RESPONSE_TIMEOUT")
@rows("TS_MAX_REQUEST_SIZE", "TS_DECODE_INPUT_REQUEST", "SAGEMAKER_TS_MAX_WORKERS")
@rows("SAGEMAKER_TS_BATCH_SIZE", "SAGEMAKER_TS_MAX_BATCH_DELAY")
def test_variables_of_the_container(old_with: Callable[[Mapping[str, str]], Old]) -> None:
    old = old_with(
        {
            "TS_DEFAULT_WORKERS_PER_MODEL": "2",
            "TS_DEFAULT_RESPONSE_TIMEOUT": "30",
            "TS_MAX_REQUEST_SIZE": "1000",
            "TS_DECODE_INPUT_REQUEST": "false",
            "SAGEMAKER_TS_MAX_WORKERS": "3",
            "SAGEMAKER_TS_BATCH_SIZE": "8",
            "SAGEMAKER_TS_MAX_BATCH_DELAY": "1",
        }
    )
    assert told(old, "type(row['body']).__name__") == "bytearray"
    name = old.loaded[-1]
    settings = old.told(name)["settings"]
    expected = {"minWorkers": 2, "maxWorkers": 3, "batchSize": 8, "maxBatchDelayMs": 1.0}
    expected |= {"requestTimeoutSeconds": 30.0}
    assert {key: settings[key] for key in expected} == expected
    assert old.invoke(name, b" " * 1001).status_code == 413


def test_each_row_has_a_test() -> None:
    rows.check()
