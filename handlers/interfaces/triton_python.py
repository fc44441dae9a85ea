"""Triton's python backend: a class ``TritonPythonModel`` that is asked with ``execute``."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from handlers.data import v2
from handlers.directory.triton import TensorSpec, TritonModel, tensor_specs
from handlers.errors import HandlerError, InvalidOutput, ModelLoadError, PredictionFailed
from handlers.interfaces.awaiting import settled
from handlers.interfaces.user_code import lend_to_main
from handlers.optional_packages import usable
from handlers.types import Resources

log = logging.getLogger("modelyard.handlers")

CLASS = "TritonPythonModel"
UTILS = "triton_python_backend_utils"

# For codes of a TritonError; all others are 500.
_INVALID_ARGUMENT, _UNAVAILABLE = 3, 4
_STATUS = {_INVALID_ARGUMENT: 400, _UNAVAILABLE: 503}


class PythonBackend:
    """A loaded ``TritonPythonModel``.

    ``max_rows``, ``inputs`` and ``outputs`` are of ``config.pbtxt``, completed by the model's own
    ``auto_complete_config``.
    """

    def __init__(self, model: TritonModel, resources: Resources) -> None:
        if not usable("numpy"):
            raise ModelLoadError("Models of Triton need numpy, which is not installed here.")
        self._utils: Any = import_module(UTILS)
        self._name, self._version = model.name, int(model.version)
        # As Triton imports it, so that ``from . import x`` works.
        module = import_module(f"{model.version}.{model.file.stem}")
        lend_to_main(module)
        own: Any = getattr(module, CLASS, None)
        if own is None or not callable(getattr(own, "execute", None)):
            raise ModelLoadError(
                f"{model.version}/{model.file.name} must define the class {CLASS} with a method "
                "execute(self, requests)."
            )
        config = self._completed(own, _with_defaults(model))
        self.max_rows: int = config["max_batch_size"]
        self.inputs: Sequence[TensorSpec] = tensor_specs(config, "input")
        self.outputs: Sequence[TensorSpec] = tensor_specs(config, "output")
        self.owner = own()
        if hasattr(self.owner, "initialize"):
            settled(self.owner.initialize(_arguments(model, config, resources)))

    def compute(self, calls: Sequence[v2.Call]) -> list[Mapping[str, Any] | HandlerError]:
        """One call of ``execute`` for all."""
        requests = [self._request(call) for call in calls]
        responses = settled(self.owner.execute(requests))
        if not isinstance(responses, list) or len(responses) != len(calls):
            count = len(responses) if isinstance(responses, list) else type(responses).__name__
            error = InvalidOutput(
                f"execute returned {count} for {len(calls)} requests; it must return a list with "
                "one InferenceResponse for each."
            )
            return [error for _ in calls]
        return [_outputs(response) for response in responses]

    def finalize(self) -> None:
        """Call the model's own, if it has one."""
        if hasattr(self.owner, "finalize"):
            settled(self.owner.finalize())

    def _completed(self, own: Any, config: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(own, "auto_complete_config"):
            return config
        found = own.auto_complete_config(self._utils.ModelConfig(copy.deepcopy(config)))
        if found is None:
            raise ModelLoadError("auto_complete_config returned None; it must return what it got.")
        completed: dict[str, Any] = found.as_dict()
        return completed

    def _request(self, call: v2.Call) -> Any:
        names = [asked.name for asked in call.outputs] or [spec.name for spec in self.outputs]
        timeout = call.parameters.get("timeout", 0)
        return self._utils.InferenceRequest(
            inputs=[self._utils.Tensor(name, array) for name, array in call.inputs.items()],
            requested_output_names=names,
            model_name=self._name,
            model_version=self._version,
            request_id=call.id,
            timeout=timeout if isinstance(timeout, int) else 0,
            parameters=call.parameters,
        )


def _outputs(response: Any) -> Mapping[str, Any] | HandlerError:
    """What a response holds. Told by its methods: the model may have a class of its own."""
    if not hasattr(response, "output_tensors"):
        return InvalidOutput(
            f"execute returned a {type(response).__name__} for a request; it must be an "
            "InferenceResponse."
        )
    if response.has_error():
        error = response.error()
        return PredictionFailed(error.message(), status=_STATUS.get(error.code(), 500))
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def _arguments(model: TritonModel, config: dict[str, Any], resources: Resources) -> dict[str, str]:
    """What ``initialize`` gets: all of it text."""
    on_gpu = resources.gpu_id is not None
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": "GPU" if on_gpu else "CPU",
        "model_instance_name": f"{model.name}_0",
        "model_instance_device_id": str(resources.gpu_id or 0),
        "model_repository": str(model.folder),
        "model_version": model.version,
        "model_name": model.name,
    }


def _with_defaults(model: TritonModel) -> dict[str, Any]:
    """The configuration as Triton gives it to models: also what the file leaves out."""
    config: dict[str, Any] = {
        "platform": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [],
        "output": [],
        "instance_group": [],
        "default_model_filename": model.file.name,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
        **copy.deepcopy(model.config),
        "name": model.name,
        "backend": model.backend,
        "max_batch_size": model.max_batch_size,
    }
    for side in ("input", "output"):
        config[side] = [{**_TENSOR[side], **tensor} for tensor in config[side]]
    return config


_TENSOR: dict[str, dict[str, Any]] = {
    "input": {
        "dims": [],
        "format": "FORMAT_NONE",
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
    },
    "output": {"dims": [], "label_filename": "", "is_shape_tensor": False},
}
