"""Runs a script's functions in turn, those left out by the default handler's.

Attributes and methods have the package's names, private ones too: framework containers override
them in subclasses.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from sagemaker_inference import content_types, environment, utils
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler

Function = Callable[..., Any]


class Transformer:
    """A model and the functions that serve it. Exceptions go to the server, which answers them."""

    def __init__(self, default_inference_handler: Any = None) -> None:
        self._default_inference_handler = default_inference_handler or DefaultInferenceHandler()
        self._initialized = False
        self._environment: Any = None
        self._context: Any = None
        self._model: Any = None
        self._pre_model_fn: Function | None = None
        self._model_fn: Any = None
        self._model_warmup_fn: Function | None = None
        self._transform_fn: Any = None
        self._input_fn: Any = None
        self._predict_fn: Any = None
        self._output_fn: Any = None

    def validate_and_initialize(
        self, model_dir: str = environment.model_dir, context: Any = None
    ) -> None:
        """Find the functions and load the model, once."""
        if self._initialized:
            return
        self._context = context
        self._environment = environment.Environment()
        self._validate_user_module_and_set_functions()
        if self._pre_model_fn is not None:
            self._run_handler_function(self._pre_model_fn, model_dir)
        self._model = self._run_handler_function(self._model_fn, model_dir)
        if self._model_warmup_fn is not None:
            self._run_handler_function(self._model_warmup_fn, model_dir, self._model)
        self._initialized = True

    def transform(self, data: Sequence[Any] | None, context: Any) -> list[Any]:
        """Answer each element of a batch; None, which comes first, only loads the model."""
        model_dir = context.system_properties.get("model_dir")
        self.validate_and_initialize(model_dir=model_dir, context=context)
        self._context = context
        return [self._transform_one(row, context, idx) for idx, row in enumerate(data or ())]

    def _transform_one(self, row: Any, context: Any, idx: int) -> Any:
        headers = context.request_processor[idx].get_request_properties()
        content_type = utils.retrieve_content_type_header(headers)
        accept = headers.get("Accept") or headers.get("accept")
        if not accept or accept == content_types.ANY:
            accept = self._environment.default_accept
        body = row.get("body")
        if content_type in content_types.UTF8_TYPES:
            body = body.decode("utf-8")
        result = self._run_handler_function(
            self._transform_fn, self._model, body, content_type, accept
        )
        body, answered = result if isinstance(result, tuple) else (result, accept)
        context.set_response_content_type(idx, answered)
        return body

    def _validate_user_module_and_set_functions(self) -> None:
        """Take each function from the user's module, else from the default handler."""
        name = self._environment.module_name
        found = importlib.util.find_spec(name) is not None
        module = importlib.import_module(name) if found else None
        own = {
            kind: getattr(module, f"{kind}_fn", None)
            for kind in ("transform", "input", "predict", "output")
        }
        if own["transform"] and (own["input"] or own["predict"] or own["output"]):
            raise ValueError(
                "transform_fn takes the place of input_fn, predict_fn and output_fn: define the "
                "one or the others."
            )
        self._transform_fn = own["transform"] or self._default_transform_fn
        self._pre_model_fn = self._function(module, "pre_model_fn")
        self._model_fn = self._function(module, "model_fn")
        self._model_warmup_fn = self._function(module, "model_warmup_fn")
        self._input_fn = self._function(module, "input_fn")
        self._predict_fn = self._function(module, "predict_fn")
        self._output_fn = self._function(module, "output_fn")

    def _function(self, module: Any, name: str) -> Any:
        default = getattr(self._default_inference_handler, f"default_{name}", None)
        return getattr(module, name, None) or default

    def _default_transform_fn(
        self, model: Any, input_data: Any, content_type: str, accept: str, context: Any = None
    ) -> Any:
        data = self._run_handler_function(self._input_fn, input_data, content_type)
        prediction = self._run_handler_function(self._predict_fn, data, model)
        return self._run_handler_function(self._output_fn, prediction, accept)

    def _run_handler_function(self, func: Function, *argv: Any) -> Any:
        """Call with the arguments, and with the context where there is one parameter more."""
        count = len(inspect.signature(func).parameters)
        if count == len(argv):
            return self._context.settled(func(*argv))
        if count == len(argv) + 1:
            return self._context.settled(func(*argv, self._context))
        name = getattr(func, "__name__", repr(func))
        raise TypeError(
            f"{name} takes {count} arguments; it is given {len(argv)}, or one more, the context"
        )
