"""The functions that stand in for those a script leaves out, and the class that calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sagemaker_containers.beta.framework import encoders, env, worker


def default_model_fn(model_dir: str) -> Any:
    """Raises ``NotImplementedError``: a script loads its model."""
    raise NotImplementedError("The script defines no model_fn(model_dir).")


def default_input_fn(input_data: Any, content_type: str) -> Any:
    """The array in a body."""
    return encoders.decode(input_data, content_type)


def default_predict_fn(data: Any, model: Any) -> Any:
    """Raises ``NotImplementedError``: a script predicts."""
    raise NotImplementedError("The script defines no predict_fn(data, model).")


def default_output_fn(prediction: Any, accept: str) -> worker.Response:
    """The array as a response of the accepted type."""
    return worker.Response(encoders.encode(prediction, accept), accept)


class Transformer:
    """A model and the functions that serve it."""

    def __init__(
        self,
        model_fn: Callable[..., Any] | None = None,
        input_fn: Callable[..., Any] | None = None,
        predict_fn: Callable[..., Any] | None = None,
        output_fn: Callable[..., Any] | None = None,
        error_class: type[Exception] | None = None,
    ) -> None:
        self._model: Any = None
        self._model_fn = model_fn or default_model_fn
        self._input_fn = input_fn or default_input_fn
        self._predict_fn = predict_fn or default_predict_fn
        self._output_fn = output_fn or default_output_fn

    def initialize(self) -> None:
        """Load the model."""
        self._model = self._model_fn(env.model_dir)

    def transform(self, content: Any, content_type: str, accept: str) -> Any:
        """Answer one request."""
        data = self._input_fn(content, content_type)
        return self._output_fn(self._predict_fn(data, self._model), accept)
