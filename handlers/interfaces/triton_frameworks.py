"""Triton's backends for frameworks: a model's file, asked with named arrays.

Requests whose inputs differ in their number of rows only are computed together.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handlers.data import v2
from handlers.data.tables import blamed_on_input
from handlers.directory.triton import FIL, ONNX, PYTORCH, TENSORFLOW, TensorSpec, TritonModel
from handlers.errors import HandlerError, InvalidInput, InvalidOutput, ModelLoadError
from handlers.frameworks import FRAMEWORKS, pytorch
from handlers.interfaces.user_errors import failure
from handlers.types import ModelPlan, Resources

log = logging.getLogger("modelyard.handlers")

Arrays = dict[str, Any]
Predict = Callable[[Arrays, Sequence[str]], Arrays]

_NUMBERED = re.compile(r".+__([0-9]{1,4})")


class FrameworkBackend:
    """A model of a framework. ``max_rows``, ``inputs`` and ``outputs`` are of ``config.pbtxt``."""

    def __init__(self, model: TritonModel, plan: ModelPlan, resources: Resources) -> None:
        self.max_rows = model.max_batch_size
        self.inputs: Sequence[TensorSpec] = model.inputs
        self.outputs: Sequence[TensorSpec] = model.outputs
        self.owner: Any = FRAMEWORKS[model.framework or ""].load(plan, resources)
        self._predict = _PREDICT[model.backend](model, self.owner)

    def compute(self, calls: Sequence[v2.Call]) -> list[Mapping[str, Any] | HandlerError]:
        """Outputs for each call; those that fit are stacked, and go alone where that fails."""
        found: list[Mapping[str, Any] | HandlerError | None] = [None] * len(calls)
        for group in self._groups(calls):
            for idx, outputs in zip(group, self._together([calls[i] for i in group]), strict=True):
                found[idx] = outputs
        return [
            self._alone(call) if outputs is None else outputs
            for call, outputs in zip(calls, found, strict=True)
        ]

    def finalize(self) -> None:
        """Nothing: a framework's model has no such thing."""

    def _groups(self, calls: Sequence[v2.Call]) -> list[list[int]]:
        if not self.max_rows or len(calls) < 2:
            return []
        groups: dict[tuple[Any, ...], list[int]] = {}
        for idx, call in enumerate(calls):
            arrays = sorted(call.inputs.items())
            lengths = {len(array) if array.ndim else None for _, array in arrays}
            if len(lengths) == 1 and None not in lengths:
                kind = tuple((name, array.shape[1:], array.dtype.str) for name, array in arrays)
                groups.setdefault(kind, []).append(idx)
        return [group for group in groups.values() if len(group) > 1]

    def _together(self, calls: Sequence[v2.Call]) -> list[Mapping[str, Any] | None]:
        import numpy as np

        alone: list[Mapping[str, Any] | None] = [None] * len(calls)
        rows = [len(next(iter(call.inputs.values()))) for call in calls]
        stacked = {
            name: np.concatenate([call.inputs[name] for call in calls]) for name in calls[0].inputs
        }
        try:
            outputs = self._run(stacked, _wanted(calls))
        except Exception as error:
            log.warning("%d stacked requests failed, each goes alone: %r", len(calls), error)
            return alone
        if any(not array.ndim or len(array) != sum(rows) for array in outputs.values()):
            return alone
        ends = np.cumsum(rows)[:-1]
        pieces = {name: np.split(array, ends) for name, array in outputs.items()}
        return [{name: pieces[name][idx] for name in pieces} for idx in range(len(calls))]

    def _alone(self, call: v2.Call) -> Mapping[str, Any] | HandlerError:
        try:
            return self._run(call.inputs, _wanted([call]))
        except Exception as error:
            return failure(error)

    def _run(self, arrays: Arrays, wanted: Sequence[str]) -> Arrays:
        names = wanted or [spec.name for spec in self.outputs]
        outputs = self._predict(arrays, names)
        for spec in self.outputs:
            if spec.reshape is not None and spec.name in outputs:
                array = outputs[spec.name]
                rows = array.shape[:1] if self.max_rows else ()
                outputs[spec.name] = array.reshape(*rows, *spec.dims)
        return outputs


def _wanted(calls: Sequence[v2.Call]) -> list[str]:
    """The outputs that clients name; none if one of them wants all."""
    if not all(call.outputs for call in calls):
        return []
    return list(dict.fromkeys(asked.name for call in calls for asked in call.outputs))


def _of_onnx(model: TritonModel, session: Any) -> Predict:
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    known = [output.name for output in session.get_outputs()]
    _check_known(model.outputs, known, "outputs")
    _check_known(model.inputs, [each.name for each in session.get_inputs()], "inputs")

    def predict(arrays: Arrays, wanted: Sequence[str]) -> Arrays:
        names = list(wanted) or known
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidInput(f"There is no output {unknown[0]!r}; there are {', '.join(known)}.")
        feed = {name: _as_text(array) for name, array in arrays.items()}
        with blamed_on_input(InvalidArgument, ValueError):
            return dict(zip(names, session.run(names, feed), strict=True))

    return predict


def _check_known(specs: Sequence[TensorSpec], known: Sequence[str], what: str) -> None:
    unknown = [spec.name for spec in specs if spec.name not in known]
    if unknown:
        raise ModelLoadError(
            f"config.pbtxt names {unknown[0]!r}, but the {what} of the model are "
            f"{', '.join(known)}.",
            status=400,
        )


def _as_text(array: Any) -> Any:
    """Texts as ``str``, where the protocol has bytes."""
    if array.dtype.kind != "O":
        return array
    import numpy as np

    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [item.decode() for item in array.flat]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The model takes text in UTF-8: {error}.") from error
    return texts.reshape(array.shape)


def _of_pytorch(model: TritonModel, module: Any) -> Predict:
    """By the names of ``forward``'s arguments, else ``NAME__0``, else in the order of the file."""
    _check_named(model)
    arguments = _arguments_of(module)
    names = [spec.name for spec in model.inputs]
    by_name = all(name in arguments for name in names)
    places = names if by_name else [arguments[place] for place in _places(names, len(arguments))]
    argument_of = dict(zip(names, places, strict=True))
    outputs = [spec.name for spec in model.outputs]

    def predict(arrays: Arrays, wanted: Sequence[str]) -> Arrays:
        import torch

        tensors = {}
        for name, array in arrays.items():
            if array.dtype.kind == "O":
                raise InvalidInput(f"The input {name!r} is text, which PyTorch has no tensor for.")
            tensors[argument_of[name]] = torch.from_numpy(array)
        return _by_place(pytorch.predict_fn(tensors, module), outputs)

    return predict


def _check_named(model: TritonModel) -> None:
    if not model.inputs or not model.outputs:
        raise ModelLoadError(
            f"config.pbtxt must name input and output: the backend {model.backend} does not know "
            "them by itself.",
            status=400,
        )


def _arguments_of(module: Any) -> list[str]:
    """The names of what ``forward`` takes."""
    schema = getattr(getattr(module, "forward", None), "schema", None)
    if schema is not None:
        return [each.name for each in schema.arguments if each.name != "self"]
    return list(inspect.signature(module.forward).parameters)


def _places(names: Sequence[str], count: int) -> list[int]:
    """Where each name belongs: by the number at its end, else by its place in the file."""
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    places = [int(found[1]) if found else place for place, found in enumerate(numbered)]
    if len(set(places)) != len(places) or max(places, default=0) >= count:
        raise ModelLoadError(
            f"config.pbtxt names {', '.join(names)}, but the model takes {count} by its order. "
            "Name them by their place, INPUT__0, or as forward does.",
            status=400,
        )
    return places


def _by_place(result: Any, names: Sequence[str]) -> Arrays:
    """What a module returned as arrays by the names of outputs."""
    if isinstance(result, Mapping):
        return {name: _array(value) for name, value in result.items()}
    values = list(result) if isinstance(result, list | tuple) else [result]
    try:
        places = _places(names, len(values))
    except ModelLoadError as error:
        raise InvalidOutput(
            f"The model gave {len(values)} outputs; config.pbtxt names {', '.join(names)}."
        ) from error
    return {name: _array(values[place]) for name, place in zip(names, places, strict=True)}


def _array(value: Any) -> Any:
    if not hasattr(value, "detach"):
        raise InvalidOutput(f"The model returned a {type(value).__name__} where a tensor is due.")
    return value.detach().cpu().numpy()


def _of_tensorflow(model: TritonModel, signatures: Any) -> Predict:
    def predict(arrays: Arrays, wanted: Sequence[str]) -> Arrays:
        found: Arrays = signatures.named(arrays)
        return found

    return predict


def _of_fil(model: TritonModel, booster: Any) -> Predict:
    """Trees: probabilities, classes or values, as the parameters say."""
    _check_named(model)
    parameters = model.parameters
    framework = FRAMEWORKS[model.framework or ""]
    classifies = "true" in (parameters.get("output_class"), parameters.get("is_classifier"))
    by_class = parameters.get("predict_proba") == "true"
    threshold = float(parameters.get("threshold") or 0.5)
    gives_classes = _objective(booster) == "multi:softmax"
    (output,) = model.outputs[:1]

    def predict(arrays: Arrays, wanted: Sequence[str]) -> Arrays:
        import numpy as np

        (rows,) = arrays.values()
        found = np.asarray(framework.predict_fn(rows, booster))
        if by_class and found.ndim == 1 and not gives_classes:
            found = np.stack([1 - found, found], axis=1)
        elif classifies and not by_class and not gives_classes:
            found = found > threshold if found.ndim == 1 else found.argmax(axis=1)
        found = found.astype(np.float32)
        if found.ndim == 1 and len(output.dims) == 1:
            found = found[:, None]
        return {output.name: found}

    return predict


def _objective(booster: Any) -> str:
    """The objective of XGBoost's boosters; "" for others."""
    if not hasattr(booster, "save_config"):
        return ""
    learner = json.loads(booster.save_config())["learner"]
    return str(learner["objective"]["name"])


_PREDICT: dict[str, Callable[[TritonModel, Any], Predict]] = {
    ONNX: _of_onnx,
    PYTORCH: _of_pytorch,
    TENSORFLOW: _of_tensorflow,
    FIL: _of_fil,
}
