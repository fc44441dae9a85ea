"""Handlers written for other servers' packages: with those packages, and with ours in their place.

Each runs in a process of its own, as in a worker: our packages are hidden before its code runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]

ROOT = Path(__file__).parents[2]

DRIVER = """
import json, sys
from pathlib import Path
from handlers.errors import HandlerError
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import HandlerOptions, Headers, ModelSettings, Request

model_dir, handler, program, asked = json.loads(sys.argv[1])
options = HandlerOptions(program=program, handler=handler, shared_code_dir="/nowhere")
plan = inspect_model(Path(model_dir), options)
for name in [name for name in sys.modules if name.partition(".")[0] == "handlers"]:
    del sys.modules[name]

def told(answer):
    if isinstance(answer, HandlerError):
        return [answer.status, answer.message]
    return [answer.status, answer.content_type, answer.body.decode()]

try:
    service = load_service(plan, model_name="m", options=options)
except HandlerError as error:
    print(json.dumps([plan.interface.value, [told(error)]]))
else:
    requests = [Request(b.encode(), Headers(tuple(h.items())), request_id=str(n))
                for n, (b, h) in enumerate(asked)]
    together = service.invoke_batch(requests)
    def alone(request):
        try:
            return service.invoke(request)
        except HandlerError as error:
            return error
    one_by_one = [alone(request) for request in requests]
    assert [told(a) for a in together] == [told(a) for a in one_by_one], (together, one_by_one)
    print(json.dumps([plan.interface.value, [told(answer) for answer in together]]))
"""

Asked = list[tuple[str, dict[str, str]]]
Serve = Callable[..., tuple[str, list[list[Any]]]]


@pytest.fixture(scope="session")
def real_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sagemaker-inference and multi-model-server themselves, apart from the server's packages."""
    folder = tmp_path_factory.mktemp("real")
    packages = ["sagemaker-inference==1.10.1", "multi-model-server==1.1.11"]
    packages += ["torchserve==0.12.0", "psutil", "retrying", "six"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, *packages], check=True, timeout=300)
    return folder


@pytest.fixture(
    params=["ours", pytest.param("real", marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def serve(request: pytest.FixtureRequest, make: Make) -> Serve:
    """Serve a directory in a new process, and ask it: all at once, then one by one."""
    extra = str(request.getfixturevalue("real_packages")) if request.param == "real" else ""

    def ask(
        files: dict[str, str], asked: Asked, handler: str | None = None, program: str | None = None
    ) -> tuple[str, list[list[Any]]]:
        spec = json.dumps([str(make(files)), handler, program, asked])
        unset = ("SAGEMAKER_PROGRAM", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, spec],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": f"{ROOT}:{extra}"},
        )
        assert done.returncode == 0, done.stderr
        interface, answers = json.loads(done.stdout.splitlines()[-1])
        return interface, answers

    return ask


SCRIPT = """
def model_fn(model_dir, context):
    return context.system_properties["model_dir"] == model_dir
def input_fn(data, content_type, context):
    return [data, content_type, context.get_request_header(0, "X-Tenant"), context.get_request_id()]
def predict_fn(data, model, context):
    return [*data, context.get_request_header(0, "X-Tenant"), model]
"""

TENANTS: Asked = [
    ("[1]", {"Content-Type": "application/json", "X-Tenant": "red"}),
    ("1,2", {"Content-Type": "text/csv", "X-Tenant": "blue", "Accept": "application/json"}),
]

ANSWERS = [
    [200, "application/json", ["[1]", "application/json", "red", "0", "red", True]],
    [200, "application/json", ["1,2", "text/csv", "blue", "1", "blue", True]],
]

SERVICE = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
class Service(DefaultHandlerService): pass
"""

DELEGATE = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
_service = DefaultHandlerService()
def handle(data, context):
    if not getattr(_service, "ready", False):
        _service.initialize(context)
        _service.ready = True
    return None if data is None else _service.handle(data, context)
"""

# At load time its service gets None for data.
CARELESS = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
_service = DefaultHandlerService()
def handle(data, context): return _service.handle(data, context)
"""

HOLDER = """
from sagemaker_inference.transformer import Transformer
class Service:
    def initialize(self, context): self.transformer = Transformer()
    def handle(self, data, context): return self.transformer.transform(data, context)
"""

TRANSFORMER = """
from sagemaker_inference import content_types, decoder, encoder, errors, utils
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer
class Handler(DefaultInferenceHandler):
    def default_model_fn(self, model_dir, context=None): return "loaded"
    def default_predict_fn(self, data, model, context=None):
        tenant = context.get_request_header(0, "X-Tenant")
        return [model, tenant, *data.ravel().tolist()]
class Service(DefaultHandlerService):
    def __init__(self): super().__init__(transformer=Transformer(Handler()))
"""


def manifest(handler: str) -> str:
    return json.dumps({"model": {"modelName": "m", "handler": handler}})


def parsed(answers: list[list[Any]]) -> list[list[Any]]:
    return [[status, kind, json.loads(body)] for status, kind, body in answers]


@pytest.mark.parametrize("service", [SERVICE, DELEGATE, CARELESS, HOLDER])
@pytest.mark.parametrize("place", ["", "code/"])
def test_a_handler_service_runs_the_archives_script_with_each_requests_context(
    serve: Serve, service: str, place: str
) -> None:
    files = {
        "MAR-INF/MANIFEST.json": manifest("my_service:handle"),
        "my_service.py": service,
        f"{place}inference.py": SCRIPT,
    }
    interface, answers = serve(files, TENANTS)
    assert (interface, parsed(answers)) == ("custom-service", ANSWERS)


def test_a_handler_service_of_the_container_is_named_by_its_path(serve: Serve, make: Make) -> None:
    service = make({"home/my_service.py": DELEGATE}, name="image") / "home/my_service.py"
    files = {"code/serve.py": SCRIPT}
    _, answers = serve(files, TENANTS, handler=f"{service}:handle", program="serve.py")
    assert parsed(answers) == ANSWERS


def test_a_transformer_with_its_own_inference_handler(serve: Serve) -> None:
    files = {"MAR-INF/MANIFEST.json": manifest("my_service"), "my_service.py": TRANSFORMER}
    _, answers = serve(files, TENANTS)
    assert parsed(answers)[0] == [200, "application/json", ["loaded", "red", 1]]
    assert parsed(answers)[1] == [200, "application/json", ["loaded", "blue", 1.0, 2.0]]


def test_a_script_that_is_a_handler_service_needs_no_manifest(serve: Serve) -> None:
    interface, answers = serve({"code/inference.py": TRANSFORMER}, TENANTS)
    assert interface == "custom-service"
    assert parsed(answers)[0][2] == ["loaded", "red", 1]


def test_an_error_of_the_toolkit_has_its_status(serve: Serve) -> None:
    script = (
        "from sagemaker_inference.errors import BaseInferenceToolkitError\n"
        "def model_fn(model_dir): pass\n"
        "def predict_fn(data, model): raise BaseInferenceToolkitError(422, 'too long', 'phrase')\n"
    )
    _, answers = serve({"code/inference.py": script}, [("[1]", {})])
    assert answers == [[422, "too long"]]


def test_a_service_whose_script_has_no_model_fn_fails_its_load(serve: Serve) -> None:
    files = {"MAR-INF/MANIFEST.json": manifest("my_service"), "my_service.py": SERVICE}
    _, answers = serve(files, [])
    assert answers[0][0] == 500 and "model_fn" in answers[0][1]


def test_the_exception_of_multi_model_server_chooses_the_status(serve: Serve) -> None:
    service = """
from mms.service import PredictionException
class Handler:
    def initialize(self, context): pass
    def handle(self, data, context):
        if data[0]["body"] == b"bad": raise PredictionException("not that", 413)
        return [bytes(row["body"]).decode() for row in data]
"""
    files = {"MAR-INF/MANIFEST.json": manifest("my_service"), "my_service.py": service}
    _, answers = serve(files, [("bad", {}), ("good", {"Content-Type": "application/json"})])
    assert answers == [[413, "not that"], [200, "text/plain", "good"]]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_functions_of_a_handler_services_script_may_be_async(serve: Serve) -> None:
    script = """
async def model_fn(model_dir): return "loaded"
async def predict_fn(data, model): return [model]
"""
    files = {
        "MAR-INF/MANIFEST.json": manifest("my_service"),
        "my_service.py": SERVICE,
        "code/inference.py": script,
    }
    _, answers = serve(files, [("[1]", {"Content-Type": "application/json"})])
    assert answers == [[200, "application/json", '["loaded"]']]


TORCHSERVE = """
from ts.torch_handler.base_handler import BaseHandler
class Doubles(BaseHandler):
    def preprocess(self, data):
        import torch
        return torch.tensor([row.get("data") or row.get("body") for row in data])
    def postprocess(self, data):
        tenants = [self.context.get_request_header(n, "X-Tenant") for n in range(len(data))]
        return [list(pair) for pair in zip(data.tolist(), tenants)]
"""


def test_a_subclass_of_torchserves_base_handler(serve: Serve) -> None:
    named = {"modelName": "m", "modelFile": "net.py", "handler": "my_handler"}
    files = {
        "MAR-INF/MANIFEST.json": json.dumps({"model": named, "archiverVersion": "0.12.0"}),
        "my_handler.py": TORCHSERVE,
        "net.py": "import torch\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x): return x * 2\n",
        "model-config.yaml": "handler:\n  profile: true\n",
    }
    asked: Asked = [
        ("[1]", {"Content-Type": "application/json", "X-Tenant": "red"}),
        ("[4]", {"Content-Type": "application/json", "X-Tenant": "blue"}),
    ]
    interface, answers = serve(files, asked)
    assert interface == "torchserve"
    assert [body for _, _, body in answers] == ['[[2], "red"]', '[[8], "blue"]']


HUGGING_FACE = """
from sagemaker_huggingface_inference_toolkit.handler_service import HuggingFaceHandlerService
class Service(HuggingFaceHandlerService):
    def load(self, model_dir, context=None): return lambda inputs, **more: [inputs, more]
    def predict(self, data, model, context=None):
        return [*super().predict(data, model), self.context.get_request_header(0, "X-Tenant")]
"""


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_a_subclass_of_the_hugging_face_service(serve: Serve) -> None:
    body = '{"inputs": "text", "parameters": {"k": 2}}'
    asked: Asked = [
        (body, {"Content-Type": "application/json", "X-Tenant": "red"}),
        ("inputs\na\nb\n", {"Content-Type": "text/csv"}),
        ("a\nb\n", {"Content-Type": "text/csv"}),
        (body, {"Content-Type": "image/unknown"}),
    ]
    interface, answers = serve({"code/inference.py": HUGGING_FACE}, asked)
    assert interface == "custom-service"
    assert answers[0] == [200, "application/json", '["text",{"k":2},"red"]']
    assert answers[1] == [200, "application/json", '[["a","b"],{},null]']
    assert answers[2][0] == 400 and "names the columns" in answers[2][1]
    assert answers[3][0] == 500 and "image/unknown is not supported" in answers[3][1]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_the_hugging_face_service_takes_the_functions_of_a_script(serve: Serve) -> None:
    script = """
def model_fn(model_dir, context): return context.model_name
def predict_fn(data, model): return {"model": model, **data}
"""
    service = HUGGING_FACE.partition("class")[0] + "class Service(HuggingFaceHandlerService): pass"
    files = {
        "MAR-INF/MANIFEST.json": manifest("my_service"),
        "my_service.py": service,
        "code/inference.py": script,
    }
    _, answers = serve(files, [('{"a": 1}', {"Content-Type": "application/json"})])
    assert answers == [[200, "application/json", '{"model":"m","a":1}']]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_a_script_of_an_older_container_answers_with_its_response(serve: Serve) -> None:
    script = """
from sagemaker_containers.beta.framework import content_types, encoders, errors, worker
def model_fn(model_dir): return 2.0
def input_fn(data, content_type):
    if content_type != content_types.CSV: raise errors.UnsupportedFormatError(content_type)
    return encoders.csv_to_numpy(data, dtype=float)
def predict_fn(data, model): return data * model
def output_fn(prediction, accept):
    body = encoders.encode(prediction, accept)
    return worker.Response(body, mimetype=accept, headers={"X-A": "1"}, status=201)
"""
    csv = {"Content-Type": "text/csv", "Accept": "text/csv"}
    asked: Asked = [("1,2\n3,4", csv), ("[1]", {})]
    _, answers = serve({"code/inference.py": script}, asked)
    assert answers[0] == [201, "text/csv", "2.0,4.0\n6.0,8.0\n"]
    assert answers[1][0] == 500 and "not supported" in answers[1][1]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_a_script_of_the_xgboost_container_decodes_as_it_does(serve: Serve) -> None:
    pytest.importorskip("xgboost")
    script = """
from sagemaker_xgboost_container import encoder
def model_fn(model_dir): return None
def input_fn(data, content_type): return encoder.decode(data, content_type)
def predict_fn(data, model): return data.get_data().toarray()
"""
    asked: Asked = [
        ("1;2\n3;\n", {"Content-Type": "text/csv; charset=utf-8"}),
        ("0 1:5 3:7\n1 2:6\n", {"Content-Type": "text/libsvm"}),
        ("0:5 2:7", {"Content-Type": "text/x-libsvm"}),
    ]
    _, answers = serve({"code/inference.py": script}, asked)
    tables = [json.loads(body) for _, _, body in answers]
    assert tables[1:] == [[[0, 5, 0, 7], [0, 0, 6, 0]], [[5, 0, 7]]]
    assert tables[0][0] == [1, 2]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_starting_a_server_in_a_script_says_how_it_is_done_here(serve: Serve) -> None:
    script = """
from sagemaker_inference import model_server
model_server.start_model_server(handler_service="mine.py:handle")
def model_fn(model_dir): pass
"""
    _, answers = serve({"code/inference.py": script}, [])
    assert "Set SAGEMAKER_HANDLER to the handler service (mine.py:handle)" in answers[0][1]


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_a_part_of_a_package_that_is_not_here_says_what_to_install(serve: Serve) -> None:
    script = "from ts.torch_handler.dali_handler import DALIHandler\n"
    _, answers = serve({"code/inference.py": script + "def model_fn(model_dir): pass\n"}, [])
    assert "Of torchserve the server has only the common parts" in answers[0][1]


IMPORTS = """
import sagemaker_pytorch_serving_container.handler_service
from sagemaker_pytorch_serving_container.default_inference_handler import (
    DefaultPytorchInferenceHandler)
from mms.model_service.model_service import ModelService, SingleNodeService
from mms.metrics.dimension import Dimension
from mms.utils.mxnet import image, ndarray
from mms.utils.timeit_decorator import timeit
from ts.torch_handler.request_envelope.base import BaseEnvelope
from ts.torch_handler.text_handler import TextHandler
from sagemaker_containers.beta.framework import env, modules, transformer, worker
from sagemaker_huggingface_inference_toolkit.transformers_utils import (
    ARCHITECTURES_2_TASK, get_pipeline, infer_task_from_model_architecture, strtobool)
from sagemaker_xgboost_container import data_utils

class Service(SingleNodeService):
    def _inference(self, data): return [item * 2 for item in data]

def model_fn(model_dir): return Service("m", model_dir, None)

@timeit
def predict_fn(data, model):
    told = transformer.Transformer(lambda model_dir: 1, predict_fn=lambda data, model: data + model)
    told.initialize()
    return [
        *model.inference(data.tolist()), env.ServingEnv().module_name, strtobool("yes"),
        told.transform("[1]", "application/json", "application/json").get_data().decode(),
        data_utils.get_content_type("text/csv; label_size=1"), str(Dimension("a", "b")),
        modules.import_module(model.model_dir, "beside").WORD,
    ]
"""


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_what_archives_import_of_the_containers_packages_is_here(serve: Serve) -> None:
    files = {"code/inference.py": IMPORTS, "beside.py": "WORD = 'here'"}
    _, answers = serve(files, [("[4]", {"Content-Type": "application/json"})])
    assert answers[0][0] == 200, answers
    assert json.loads(answers[0][2]) == [8, "inference", 1, "[2]", "csv", "a-b", "here"]


def test_the_mxnet_containers_parts_are_there_without_mxnet() -> None:
    code = """
import sagemaker_mxnet_serving_container.handler_service as service
from sagemaker_mxnet_serving_container.default_inference_handler import (
    DefaultGluonBlockInferenceHandler, DefaultModuleInferenceHandler, DefaultMXNetInferenceHandler)
service.HandlerService()
print(DefaultGluonBlockInferenceHandler().default_predict_fn(1, lambda data: data + 1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "handlers/compat")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2\n"


PYTORCH = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.transformer import Transformer
from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler)
class Handler(DefaultPytorchInferenceHandler):
    def default_model_fn(self, model_dir, context=None):
        import torch
        return torch.nn.Flatten()
_service = DefaultHandlerService(Transformer(Handler()))
def handle(data, context): return _service.handle(data, context)
"""


@pytest.mark.parametrize("serve", ["ours"], indirect=True)
def test_a_handler_derived_from_the_pytorch_containers(serve: Serve) -> None:
    files = {"MAR-INF/MANIFEST.json": manifest("mine"), "mine.py": PYTORCH}
    asked: Asked = [("[[[1, 2]]]", {"Content-Type": "application/json", "Accept": "*/*"})]
    asked += [("[[[3]]]", {"Content-Type": "application/json", "Accept": "text/csv"})]
    _, answers = serve(files, asked)
    assert answers == [[200, "application/json", "[[1.0, 2.0]]"], [200, "text/csv", "3.0\n"]]


@pytest.mark.parametrize(
    "handler",
    [
        "sagemaker_pytorch_serving_container.handler_service",
        "sagemaker_mxnet_serving_container.handler_service:handle",
        "sagemaker_huggingface_inference_toolkit.handler_service",
    ],
)
def test_a_manifest_that_names_the_containers_own_service_is_served_by_its_script(
    serve: Serve, handler: str
) -> None:
    files = {"MAR-INF/MANIFEST.json": manifest(handler), "code/inference.py": SCRIPT}
    interface, answers = serve(files, TENANTS)
    assert (interface, parsed(answers)) == ("sagemaker", ANSWERS)
