from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.errors import ModelLoadError
from handlers.inspection import inspect_model
from handlers.types import HandlerOptions, Interface

Make = Callable[..., Path]

FUNCTIONS = "def model_fn(model_dir): pass\n"
HANDLE = "def handle(data, context): pass\n"


def interface_of(make: Make, options: HandlerOptions, files: dict[str, str]) -> Interface:
    return inspect_model(make(files), options).interface


@pytest.mark.parametrize(
    ("script", "interface"),
    [
        (FUNCTIONS, Interface.SAGEMAKER),
        (FUNCTIONS + HANDLE, Interface.SAGEMAKER),
        ("from helper import *\n" + HANDLE, Interface.SAGEMAKER),
        ("from helper import model_fn, handle\n", Interface.SAGEMAKER),
        ("model_fn = lambda model_dir: None\n" + HANDLE, Interface.SAGEMAKER),
        (
            "try:\n    import torch\nexcept ImportError:\n    pass\n" + FUNCTIONS,
            Interface.SAGEMAKER,
        ),
        ("if True:\n    " + FUNCTIONS + HANDLE, Interface.SAGEMAKER),
        ("def model_fn(:", Interface.SAGEMAKER),
        ("x = 1", Interface.SAGEMAKER),
        (HANDLE, Interface.CUSTOM_SERVICE),
        ("handle = print\n", Interface.CUSTOM_SERVICE),
        ("class H:\n    def model_fn(self): pass\n" + HANDLE, Interface.CUSTOM_SERVICE),
        (
            "from sagemaker_inference.default_handler_service import DefaultHandlerService\n"
            "class H(DefaultHandlerService): pass\n",
            Interface.CUSTOM_SERVICE,
        ),
        (
            "from ts.torch_handler.base_handler import BaseHandler\nclass H(BaseHandler): pass\n",
            Interface.TORCHSERVE,
        ),
    ],
)
def test_a_script_without_sagemaker_functions_may_be_a_handler(
    make: Make, options: HandlerOptions, script: str, interface: Interface
) -> None:
    files = {"code/inference.py": script, "code/helper.py": FUNCTIONS + HANDLE}
    assert interface_of(make, options, files) is interface


@pytest.mark.parametrize(
    ("manifest", "script", "interface"),
    [
        ({"model": {"handler": "h"}}, "", Interface.CUSTOM_SERVICE),
        ({"model": {"handler": "h"}, "modelServerVersion": "1.0"}, "", Interface.CUSTOM_SERVICE),
        ({"model": {"handler": "h"}, "archiverVersion": "0.12.0"}, "", Interface.TORCHSERVE),
        ({"model": {"handler": "h", "serializedFile": "a.pt"}}, "", Interface.TORCHSERVE),
        ({"model": {"handler": "h"}}, "import ts.context", Interface.TORCHSERVE),
        (
            {"model": {"handler": "h", "serializedFile": "a.pt"}},
            "from mms.service import PredictionException",
            Interface.CUSTOM_SERVICE,
        ),
    ],
)
def test_a_manifest_is_of_the_server_whose_archiver_wrote_it(
    make: Make,
    options: HandlerOptions,
    manifest: dict[str, object],
    script: str,
    interface: Interface,
) -> None:
    files = {"MAR-INF/MANIFEST.json": json.dumps(manifest), "h.py": script, "a.pt": ""}
    assert interface_of(make, options, files) is interface


@pytest.mark.parametrize(
    "handler",
    [
        "sagemaker_pytorch_serving_container.handler_service",
        "sagemaker_mxnet_serving_container.handler_service:handle",
        "sagemaker_huggingface_inference_toolkit.handler_service",
        "sagemaker_sklearn_container.serving:main",
        "sagemaker_inference.default_handler_service",
    ],
)
def test_a_containers_own_handler_service_is_what_is_done_here_anyway(
    make: Make, options: HandlerOptions, handler: str
) -> None:
    options = dataclasses.replace(options, handler=handler)
    files = {"code/inference.py": FUNCTIONS}
    assert interface_of(make, options, files) is Interface.SAGEMAKER


def test_torchserves_own_handlers_need_no_file_but_an_archives_file_comes_first(
    make: Make, options: HandlerOptions
) -> None:
    manifest = json.dumps({"model": {"handler": "image_classifier"}})
    model_dir = make({"MAR-INF/MANIFEST.json": manifest})
    plan = inspect_model(model_dir, options)
    assert plan.handler == "ts.torch_handler.image_classifier:handle"
    assert (plan.script, plan.framework) == (None, "pytorch")
    make({"image_classifier.py": HANDLE})
    plan = inspect_model(model_dir, options)
    assert plan.handler == "image_classifier:handle"


def test_a_handler_that_nobody_has_is_refused(make: Make, options: HandlerOptions) -> None:
    manifest = json.dumps({"model": {"handler": "audio_classifier", "serializedFile": "a.pt"}})
    with pytest.raises(ModelLoadError, match=r"audio_classifier\.py is neither in") as caught:
        inspect_model(make({"MAR-INF/MANIFEST.json": manifest, "a.pt": ""}), options)
    assert caught.value.status == 400
