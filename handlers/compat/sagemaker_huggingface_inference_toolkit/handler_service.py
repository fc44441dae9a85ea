"""The toolkit's handler service, whose methods archives override: load, preprocess, predict,
postprocess, transform_fn; a script's model_fn, input_fn, … take their places.

Exceptions go to the server, which answers them with their own status.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagemaker_huggingface_inference_toolkit import (
    content_types,
    decoder_encoder,
    transformers_utils,
)
from sagemaker_inference import environment, utils

# A script's function takes the place of the method.
METHODS = {
    "model_fn": "load",
    "input_fn": "preprocess",
    "predict_fn": "predict",
    "output_fn": "postprocess",
    "transform_fn": "transform_fn",
}


class HuggingFaceHandlerService(ABC):  # noqa: B024 - its subclasses override what they like
    """A custom service around a pipeline. Answers one request at a time."""

    def __init__(self) -> None:
        self.model_dir: str = ""
        self.model: Any = None
        self.device = -1
        self.initialized = False
        self.context: Any = None
        self.manifest: Any = None
        self.environment = environment.Environment()

    def initialize(self, context: Any) -> None:
        """Take the script's functions, if there is one, and load the model."""
        self.context = context
        self.model_dir = str(context.system_properties.get("model_dir"))
        sys.path.insert(0, str(Path(self.model_dir, "code")))
        self.validate_and_initialize_user_module()
        self.device = self.get_device()
        self.model = self._call(self.load, self.model_dir)
        self.initialized = True

    def get_device(self) -> int:
        """The number of the GPU, or -1."""
        gpu_id = self.context.system_properties.get("gpu_id")
        return -1 if gpu_id is None else int(gpu_id)

    def load(self, model_dir: str, context: Any = None) -> Any:
        """The pipeline of HF_TASK, or of the task that config.json speaks of."""
        task = os.environ.get("HF_TASK")
        if not task:
            config = str(Path(model_dir, "config.json"))
            task = transformers_utils.infer_task_from_model_architecture(config)
        return transformers_utils.get_pipeline(task, self.device, model_dir)

    def preprocess(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        """What the body holds."""
        return decoder_encoder.decode(input_data, content_type)

    def predict(self, data: Any, model: Any, context: Any = None) -> Any:
        """The pipeline of ``inputs``, with ``parameters`` where there are some."""
        inputs = data.pop("inputs", data)
        return model(inputs, **(data.pop("parameters", None) or {}))

    def postprocess(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """The result as the accepted type."""
        return decoder_encoder.encode(prediction, accept)

    def transform_fn(
        self, model: Any, input_data: Any, content_type: str, accept: str, context: Any = None
    ) -> Any:
        """All three in turn."""
        data = self._call(self.preprocess, input_data, content_type)
        prediction = self._call(self.predict, data, model)
        return self._call(self.postprocess, prediction, accept)

    def handle(self, data: Any, context: Any) -> list[Any]:
        """Answer one request; None, which comes first, only loads the model."""
        if not self.initialized:
            self.initialize(context)
        if data is None:
            return []
        self.context = context
        headers = context.request_processor[0].get_request_properties()
        content_type = utils.retrieve_content_type_header(headers)
        accept = headers.get("Accept") or headers.get("accept")
        accept = content_types.JSON if accept in (None, "", content_types.ANY) else accept
        body = data[0].get("body")
        if content_type in content_types.UTF8_TYPES:
            body = body.decode("utf-8")
        answer = self._call(self.transform_fn, self.model, body, content_type, accept)
        if context.get_response_content_type(0) is None:
            context.set_response_content_type(0, accept)
        return [answer]

    def validate_and_initialize_user_module(self) -> None:
        """Put the script's functions in place of the methods."""
        name = self.environment.module_name
        if importlib.util.find_spec(name) is None:
            return
        module = importlib.import_module(name)
        found = {kind: getattr(module, kind) for kind in METHODS if hasattr(module, kind)}
        if "transform_fn" in found and found.keys() & {"input_fn", "predict_fn", "output_fn"}:
            raise ValueError(
                "transform_fn takes the place of input_fn, predict_fn and output_fn: define the "
                "one or the others."
            )
        for kind, function in found.items():
            setattr(self, METHODS[kind], function)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call with the arguments, and with the context where there is a parameter for it."""
        count = len(inspect.signature(function).parameters)
        if count not in (len(arguments), len(arguments) + 1):
            raise TypeError(
                f"{getattr(function, '__name__', function)} takes {count} arguments; it is given "
                f"{len(arguments)}, or one more, the context"
            )
        answer = function(*arguments, *([self.context] if count > len(arguments) else []))
        return self.context.settled(answer)
