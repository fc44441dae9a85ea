"""The handler that most TorchServe archives derive theirs from.

It loads TorchScript, ``torch.export`` archives, or weights with the class in the manifest's
modelFile; a subclass overrides what it does differently.
"""

from __future__ import annotations

import abc
import importlib
import json
import time
from pathlib import Path
from typing import Any

from ts.handler_utils.timer import timed
from ts.utils.util import list_classes_from_module, load_label_mapping


class BaseHandler(abc.ABC):  # noqa: B024 - its subclasses override what they like
    """Loads a model, then answers batches by preprocess, inference and postprocess."""

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: Any = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: Any = None
        self.map_location: str | None = None
        self.explain = False
        self.target = 0
        self.profiler_args: dict[str, Any] = {}
        self.model_yaml_config: dict[str, Any] = {}

    def initialize(self, context: Any) -> None:
        """Load the model that the manifest names onto its device."""
        import torch

        self.context = context
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        properties = context.system_properties
        gpu_id = properties.get("gpu_id")
        on_gpu = gpu_id is not None and torch.cuda.is_available()
        self.map_location = "cuda" if on_gpu else "cpu"
        self.device = torch.device(f"cuda:{gpu_id}" if on_gpu else "cpu")
        self.manifest = context.manifest or {"model": {}}
        model_dir = str(properties.get("model_dir"))
        self.model = self._load(model_dir, self.manifest.get("model", {}))
        self._compile()
        self.mapping = load_label_mapping(str(Path(model_dir, "index_to_name.json")))
        self.initialized = True

    def _load(self, model_dir: str, named: dict[str, Any]) -> Any:
        file = named.get("serializedFile")
        self.model_pt_path = str(Path(model_dir, file)) if file else None
        if named.get("modelFile"):
            model = self._load_pickled_model(model_dir, named["modelFile"], self.model_pt_path)
            return model.to(self.device).eval()
        if self.model_pt_path is None:
            raise RuntimeError(
                "The manifest names neither a serializedFile nor a modelFile: this handler needs "
                "its own initialize."
            )
        if self.model_pt_path.endswith((".pt", ".pth")):
            return self._load_torchscript_model(self.model_pt_path).eval()
        if self.model_pt_path.endswith(".pt2"):
            import torch

            return torch.export.load(self.model_pt_path).module()
        raise RuntimeError(
            f"{file} cannot be loaded by BaseHandler, which knows TorchScript (.pt), torch.export "
            "(.pt2) and weights with a modelFile: override initialize."
        )

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        import torch

        load: Any = torch.jit.load
        return load(model_pt_path, map_location=self.device)

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> Any:
        """The one class of the model file, with the weights if there are any."""
        import torch

        if not Path(model_dir, model_file).is_file():
            raise RuntimeError(f"The modelFile {model_file} is not in the archive.")
        module = importlib.import_module(model_file.partition(".")[0])
        classes = list_classes_from_module(module)
        modules = [item for item in classes if issubclass(item, torch.nn.Module)]
        if len(classes) != 1 and len(modules) != 1:
            raise ValueError(f"{model_file} must define one class, not {classes}")
        model = (classes if len(classes) == 1 else modules)[0]()
        if model_pt_path:
            weights = torch.load(model_pt_path, map_location=self.device)
            model.load_state_dict(weights)
        return model

    def _compile(self) -> None:
        """Apply ``pt2`` of model-config.yaml: a backend, options, or ``compile: {enable: …}``."""
        options = self.model_yaml_config.get("pt2")
        if isinstance(options, str):
            options = {"backend": options}
        if isinstance(options, dict) and "compile" in options:
            wanted = dict(options["compile"])
            options = wanted if wanted.pop("enable", False) else None
        if not isinstance(options, dict) or "export" in options:
            return
        import torch

        self.model = torch.compile(self.model, **options)

    @timed
    def preprocess(self, data: Any) -> Any:
        """The rows' numbers as one tensor; a subclass reads anything else."""
        import torch

        return torch.as_tensor([_numbers(row) for row in data], device=self.device)

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model gives for a tensor."""
        import torch

        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> Any:
        """A list with one element for each request."""
        return data.tolist()

    def handle(self, data: Any, context: Any) -> Any:
        """Answer one batch."""
        started = time.monotonic()
        self.context = context
        if self._is("describe"):
            return [self.describe_handle()]
        prepared = context.settled(self.preprocess(data))
        if self._is("explain"):
            self.explain = True
            output = self.explain_handle(prepared, data)
        else:
            predicted = context.settled(self.inference(prepared))
            output = context.settled(self.postprocess(predicted))
        milliseconds = round((time.monotonic() - started) * 1000, 2)
        context.metrics.add_time("HandlerTime", milliseconds, None, "ms")
        return output

    def _is(self, header: str) -> bool:
        return bool(self.context.get_request_header(0, header) == "True")

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """The explanations of a batch, by the subclass's ``get_insights``."""
        row = raw_data[0] if isinstance(raw_data[0], dict) else {}
        inputs = row.get("data") or row.get("body")
        return self.get_insights(data_preprocess, inputs, row.get("target") or 0)

    def get_insights(self, tensor_data: Any, raw_data: Any, target: Any = 0) -> Any:
        """Raises ``NotImplementedError``: a subclass explains."""
        raise NotImplementedError("This handler has no get_insights, so it cannot explain.")

    def describe_handle(self) -> Any:
        """What a subclass says of itself."""
        return None

    def get_device(self) -> Any:
        """The device of the model."""
        return self.device


def _numbers(row: Any) -> Any:
    """What a request holds, JSON decoded if the server has not done it."""
    if not isinstance(row, dict):
        return row
    value = row["data"] if "data" in row else row.get("body")
    if isinstance(value, dict):
        value = next((value[key] for key in ("data", "instances", "inputs") if key in value), value)
    return json.loads(value) if isinstance(value, str | bytes | bytearray) else value
