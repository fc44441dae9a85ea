from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import HandlerError, InvalidOutput, ModelLoadError
from handlers.inspection import inspect_model
from handlers.service import LoadedModel
from handlers.types import HandlerOptions, Interface, Request, Response

Make = Callable[..., Path]
Load = Callable[..., LoadedModel]
Ask = Callable[..., Request]

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x): return x.float() * self.scale
"""

HANDLER = """
from ts.torch_handler.base_handler import BaseHandler
class Doubles(BaseHandler):
    def preprocess(self, data):
        import torch
        return torch.tensor([row.get("data") or row.get("body") for row in data])
    def postprocess(self, data):
        return [{"doubled": row, "by": self.context.model_name} for row in data.tolist()]
"""


def manifest(**model: object) -> str:
    """What torch-model-archiver writes."""
    return json.dumps(
        {
            "createdOn": "01/01/2025 00:00:00",
            "runtime": "python",
            "model": {"modelName": "net", "modelVersion": "1.0", **model},
            "archiverVersion": "0.12.0",
        }
    )


@pytest.fixture
def weights() -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"scale": torch.tensor([2.0])}, file)
    return file.getvalue()


@pytest.fixture
def archive(weights: bytes) -> dict[str, Any]:
    return {
        "MAR-INF/MANIFEST.json": manifest(
            serializedFile="net.pt", modelFile="net.py", handler="my_handler.py"
        ),
        "net.pt": weights,
        "net.py": NET,
        "my_handler.py": HANDLER,
    }


def test_a_base_handlers_subclass_answers_a_batch(
    load: Load, ask: Ask, archive: dict[str, Any]
) -> None:
    model = load(archive)
    assert model.takes_batches
    answers = model.invoke_batch([ask("[1]", "application/json"), ask("[4]", "application/json")])
    assert [json.loads(a.body) for a in answers if isinstance(a, Response)] == [
        {"doubled": [2.0], "by": "m"},
        {"doubled": [8.0], "by": "m"},
    ]


def test_the_plan_says_torchserve_and_which_framework(
    make: Make, options: HandlerOptions, archive: dict[str, Any]
) -> None:
    plan = inspect_model(make(archive), options)
    assert (plan.interface, plan.framework) == (Interface.TORCHSERVE, "pytorch")
    assert plan.handler == "my_handler:handle"


@pytest.mark.parametrize("handler", ["my_handler", "my_handler.py", "my_handler:Doubles"])
def test_a_handler_is_named_by_file_or_class(
    load: Load, ask: Ask, archive: dict[str, Any], handler: str
) -> None:
    named = manifest(serializedFile="net.pt", modelFile="net.py", handler=handler)
    model = load({**archive, "MAR-INF/MANIFEST.json": named})
    assert json.loads(model.invoke(ask("[1]", "application/json")).body)["doubled"] == [2.0]


def test_the_base_handler_itself_serves_tensors(
    load: Load, ask: Ask, archive: dict[str, Any]
) -> None:
    named = manifest(serializedFile="net.pt", modelFile="net.py", handler="base_handler")
    model = load({**archive, "MAR-INF/MANIFEST.json": named})
    assert json.loads(model.invoke(ask("[1, 2]", "application/json")).body) == [2.0, 4.0]
    assert json.loads(model.invoke(ask("[1, 2]")).body) == [2.0, 4.0]
    assert json.loads(model.invoke(ask('{"data": [3]}', "application/json")).body) == [6.0]


def test_the_image_classifier_names_the_likeliest_classes(load: Load, ask: Ask) -> None:
    import torch
    from PIL import Image

    named = manifest(serializedFile="net.pt", modelFile="net.py", handler="image_classifier")
    net = """
import torch
class Brightest(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        assert x.shape[1:] == (3, 224, 224)
        return x.mean(dim=(2, 3)) * self.gain
"""
    file, picture = io.BytesIO(), io.BytesIO()
    torch.save({"gain": torch.tensor([9.0])}, file)
    Image.new("RGB", (300, 400), (250, 10, 10)).save(picture, format="PNG")
    files: dict[str, Any] = {
        "MAR-INF/MANIFEST.json": named,
        "net.py": net,
        "net.pt": file.getvalue(),
        "index_to_name.json": '{"0": ["n0", "red"], "1": "green", "2": "blue"}',
    }
    answer = json.loads(load(files).invoke(ask(picture.getvalue(), "image/png")).body)
    assert next(iter(answer)) == "red"
    assert sum(answer.values()) == pytest.approx(1)


def test_a_torchserve_handler_that_is_not_here_says_what_to_install(load: Load) -> None:
    named = manifest(serializedFile="net.pt", handler="dali_image_classifier")
    with pytest.raises(ModelLoadError, match=r"dali_image_classifier.*torchserve"):
        load({"MAR-INF/MANIFEST.json": named, "net.pt": b""})


BAG = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.EmbeddingBag(4, 2)
    def forward(self, numbers, offsets): return self.words(numbers, offsets)
"""


def saved(value: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_torchserves_text_classifier_without_torchtext(load: Load, ask: Ask) -> None:
    import torch

    rows = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
    files = {
        "MAR-INF/MANIFEST.json": manifest(
            serializedFile="net.pt", modelFile="net.py", handler="text_classifier"
        ),
        "net.py": BAG,
        "net.pt": saved({"words.weight": rows}),
        "index_to_name.json": json.dumps({"0": "good", "1": "bad"}),
    }
    with pytest.raises(ModelLoadError, match=r"source_vocab.pt is not in the archive.*torch.save"):
        load(files)
    files["source_vocab.pt"] = saved({"<unk>": 0, "nice": 1, "awful": 2, "not nice": 3})
    model = load(files)
    likes = json.loads(model.invoke(ask("<b>NICE</b>!", "text/plain")).body)
    dislikes = json.loads(model.invoke(ask("that's awful", "text/plain")).body)
    pair = json.loads(model.invoke(ask("isn't nice", "text/plain")).body)
    assert likes["good"] > likes["bad"]
    assert dislikes["bad"] > dislikes["good"]
    assert pair["bad"] > pair["good"]


DETECTOR = """
import torch
class Net(torch.nn.Module):
    def forward(self, images):
        heights = [float(image.shape[1]) for image in images]
        return [{"boxes": torch.tensor([[0.0, 0.0, 1.0, h], [0.0, 0.0, 2.0, h]]),
                 "labels": torch.tensor([1, 0]), "scores": torch.tensor([0.75, 0.25])}
                for h in heights]
"""

SEGMENTER = """
import torch
class Net(torch.nn.Module):
    def forward(self, images):
        return {"out": torch.stack([images[:, 0] * 0, images[:, 0] * 0 + 9], dim=1)}
"""


def picture(ask: Ask) -> Request:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "png")
    return ask(file.getvalue(), "image/png")


def test_torchserves_object_detector(load: Load, ask: Ask) -> None:
    files = {
        "MAR-INF/MANIFEST.json": manifest(modelFile="net.py", handler="object_detector"),
        "net.py": DETECTOR,
        "index_to_name.json": json.dumps({"0": "cat", "1": "dog"}),
    }
    found = json.loads(load(files).invoke(picture(ask)).body)
    assert found == [{"dog": [0.0, 0.0, 1.0, 6.0], "score": 0.75}]


def test_torchserves_image_segmenter(load: Load, ask: Ask) -> None:
    files = {
        "MAR-INF/MANIFEST.json": manifest(modelFile="net.py", handler="image_segmenter"),
        "net.py": SEGMENTER,
    }
    rows = json.loads(load(files).invoke(picture(ask)).body)
    assert (len(rows), len(rows[0])) == (224, 224)
    assert rows[0][0] == [1.0, pytest.approx(0.9999, abs=1e-3)]


def test_the_context_has_what_torchserves_has(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h", configFile="model-config.yaml"),
            "model-config.yaml": "minWorkers: 1\nhandler:\n  threshold: 0.5\n",
            "h.py": """
from ts.context import Context
class H:
    def initialize(self, context: Context):
        self.config = context.model_yaml_config["handler"]
        self.properties = context.system_properties
        self.name = context.manifest["model"]["modelName"]
    def handle(self, data, context):
        kind = context.get_request_header(0, "Content-Type")
        return [[self.config, sorted(self.properties), self.name, kind]]
""",
        }
    )
    config, properties, name, kind = json.loads(model.invoke(ask("", "text/plain")).body)
    assert (config, name, kind) == ({"threshold": 0.5}, "net", "text/plain")
    wanted = {"model_dir", "gpu_id", "batch_size", "server_name", "limit_max_image_pixels"}
    assert wanted <= set(properties)


def test_extra_files_lie_beside_and_bodies_come_decoded(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h:run"),
            "words.json": '["a", "b"]',
            "h.py": """
import json, os
words = None
def run(data, context):
    global words
    if data is None:
        with open(os.path.join(context.system_properties["model_dir"], "words.json")) as file:
            words = json.load(file)
        return None
    return [words[row["body"]["n"]] for row in data]
""",
        }
    )
    assert model.invoke(ask('{"n": 1}', "application/json")).body == b"b"


def test_a_tensor_is_answered_as_torch_save_writes_it(load: Load, ask: Ask) -> None:
    import torch

    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": "import torch\n"
            "def handle(data, context): return data and [torch.ones(2) for _ in data]\n",
        }
    )
    assert torch.load(io.BytesIO(model.invoke(ask("")).body)).tolist() == [1, 1]


def test_a_handler_that_returns_a_tensor_for_all_is_told_so(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": "import torch\ndef handle(data, context): return torch.ones(2)\n",
        }
    )
    with pytest.raises(InvalidOutput, match="returned a Tensor; it must return a list"):
        model.invoke(ask(""))


def test_an_exception_with_a_code_chooses_the_status(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": """
from ts.service import PredictionException
def handle(data, context):
    if data: raise PredictionException("too long", 413)
""",
        }
    )
    with pytest.raises(HandlerError) as caught:
        model.invoke(ask(""))
    assert (caught.value.status, caught.value.message) == (413, "too long")


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"serializedFile": "net.pt", "modelFile": "gone.py"}, "gone.py is not in the archive"),
        ({"serializedFile": "net.xyz"}, "net.xyz cannot be loaded by BaseHandler"),
        ({}, "neither a serializedFile nor a modelFile"),
        ({"requirementsFile": "gone.txt"}, "requirementsFile 'gone.txt', which is not in"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(
    load: Load, named: dict[str, str], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load({"MAR-INF/MANIFEST.json": manifest(handler="base_handler", **named), "net.pt": b""})


def test_a_model_file_of_two_classes_is_told(load: Load, archive: dict[str, Any]) -> None:
    two = NET + "class Other(torch.nn.Module): pass\n"
    with pytest.raises(ModelLoadError, match="must define one class"):
        load({**archive, "net.py": two})


def test_helpers_of_the_package_may_be_imported(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": """
from ts.handler_utils.timer import timed
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import list_classes_from_module, load_label_mapping, map_class_to_label
class H:
    def initialize(self, context): self.context = context
    @timed
    def handle(self, data, context):
        dimensions = [Dimension("Level", "Model")]
        context.metrics.add_metric("n", 1, "unit", None, dimensions, MetricTypes.GAUGE)
        context.metrics.add_time("t", 1.5, None, "ms")
        return [map_class_to_label([[0.25, 0.75]], {"0": "a", "1": "b"}, [[0, 1]])]
""",
            "model-config.yaml": "handler:\n  profile: true\n",
        }
    )
    assert json.loads(model.invoke(ask("")).body) == [{"a": 0.25, "b": 0.75}]


def test_steps_of_a_handler_may_be_async(load: Load, ask: Ask) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": """
from ts.torch_handler.base_handler import BaseHandler
class H(BaseHandler):
    async def initialize(self, context): self.manifest = context.manifest
    async def preprocess(self, data): return [row["body"] for row in data]
    async def inference(self, data): return data * 2
    async def postprocess(self, data): return data[:1]
""",
        }
    )
    assert model.invoke(ask("x", "text/plain")).body == b"x"


@pytest.mark.parametrize("place", ["handler_utils.utils", "protocol.otf_message_handler"])
def test_intermediate_answers_go_out_in_front_of_the_last(load: Load, ask: Ask, place: str) -> None:
    model = load(
        {
            "MAR-INF/MANIFEST.json": manifest(handler="h"),
            "h.py": f"""
from ts.{place} import send_intermediate_predict_response
def handle(data, context):
    if data is None: return
    for text in ("a", "b"):
        parts = [text] * len(data)
        send_intermediate_predict_response(parts, context.request_ids, "ok", 200, context)
    return ["c"] * len(data)
""",
        }
    )
    response = model.invoke(ask(""))
    assert (response.body, response.content_type) == (b"abc", "text/plain")
    assert model.invoke(ask("")).body == b"abc"
