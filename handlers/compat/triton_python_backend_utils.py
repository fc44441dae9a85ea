"""What models of Triton's python backend import: tensors, requests, responses, configurations."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

# numpy's names for Triton's types, in the order of Triton's numbers for them, from 1 on.
_NUMPY = {
    "TYPE_BOOL": "bool_",
    "TYPE_UINT8": "uint8",
    "TYPE_UINT16": "uint16",
    "TYPE_UINT32": "uint32",
    "TYPE_UINT64": "uint64",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_FP16": "float16",
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
    "TYPE_STRING": "object_",
}

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU = 0
TRITONSERVER_MEMORY_GPU = 1


class TritonModelException(Exception):
    """Raised by what this module offers, and by models."""


class TritonError:
    """Why there is no response to a request. ``code`` is one of the constants of the class."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE = range(5)
    UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(5, 8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = message
        self._code = code

    def message(self) -> str:
        """What to tell the client."""
        return self._message

    def code(self) -> int:
        """Which kind of error."""
        return self._code


class Tensor:
    """A named array. Text is an array of objects, which are ``bytes``."""

    def __init__(self, name: str, array: Any) -> None:
        import numpy as np

        if not isinstance(array, np.ndarray):
            raise TritonModelException(f"Tensor {name!r} needs a numpy array, not {type(array)}")
        self._name = name
        self._array = array

    def name(self) -> str:
        """The name of the input or output."""
        return self._name

    def as_numpy(self) -> Any:
        """The array itself."""
        return self._array

    def shape(self) -> list[int]:
        """The lengths of its axes."""
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """Triton's number for the type."""
        return numpy_to_triton_type(self._array.dtype)

    def is_cpu(self) -> bool:
        """Always: tensors come and go through the host's memory."""
        return True

    def to_dlpack(self) -> Any:
        """The array for other libraries, by reference."""
        return self._array.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:
        """A tensor of what another library holds, of its device too; capsules need ``torch``."""
        import numpy as np

        if hasattr(tensor, "cpu"):
            tensor = tensor.detach().cpu()
        if hasattr(tensor, "__dlpack__"):
            return Tensor(name, np.from_dlpack(tensor))
        from torch.utils.dlpack import from_dlpack

        opened: Any = from_dlpack(tensor)
        return Tensor(name, opened.cpu().numpy())


class InferenceResponse:
    """The answer to one request: its tensors, or an error."""

    def __init__(self, output_tensors: Iterable[Tensor] | None = None, error: Any = None) -> None:
        self._tensors = list(output_tensors or ())
        self._error = TritonError(error) if isinstance(error, str) else error

    def output_tensors(self) -> list[Tensor]:
        """The tensors."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether it is an error."""
        return self._error is not None

    def error(self) -> Any:
        """The error, or None."""
        return self._error


class InferenceRequest:
    """One request as a model's ``execute`` gets it."""

    def __init__(  # noqa: PLR0913 - as Triton has it
        self,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        request_id: str = "",
        correlation_id: Any = 0,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: Any = None,
        trace: Any = None,
        parameters: Any = None,
    ) -> None:
        self._inputs = list(inputs)
        self._outputs = list(requested_output_names)
        self._model_name, self._model_version = model_name, model_version
        self._request_id, self._correlation_id = request_id, correlation_id
        self._flags, self._timeout = flags, timeout
        self._preferred_memory, self._trace = preferred_memory, trace
        self._parameters = parameters if parameters is not None else {}

    def inputs(self) -> list[Tensor]:
        """The tensors that the client sent."""
        return self._inputs

    def requested_output_names(self) -> list[str]:
        """The outputs that the client wants."""
        return self._outputs

    def model_name(self) -> str:
        """The model's name."""
        return self._model_name

    def model_version(self) -> int:
        """The version that is served."""
        return self._model_version

    def request_id(self) -> str:
        """The client's id of the request, or ""."""
        return self._request_id

    def correlation_id(self) -> Any:
        """Always 0: there are no sequences."""
        return self._correlation_id

    def flags(self) -> int:
        """Always 0: there are no sequences."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the flags."""
        self._flags = flags

    def timeout(self) -> int:
        """The client's limit in microseconds; 0 for none."""
        return self._timeout

    def parameters(self) -> str:
        """The client's parameters, a JSON object."""
        if isinstance(self._parameters, str):
            return self._parameters
        return json.dumps(self._parameters)

    def preferred_memory(self) -> Any:
        """Where outputs are wanted, as given."""
        return self._preferred_memory

    def trace(self) -> Any:
        """What it is traced by, as given."""
        return self._trace

    def is_cancelled(self) -> bool:
        """Always False: a request that has begun is finished."""
        return False

    def get_response_sender(self) -> NoReturn:
        """Raises: that is for decoupled models."""
        raise TritonModelException("decoupled models are not served: return the response")

    def exec(self, *args: Any, **options: Any) -> NoReturn:
        """Raises: a model cannot call another one."""
        raise TritonModelException(_BLS)

    async def async_exec(self, *args: Any, **options: Any) -> NoReturn:
        """Raises: a model cannot call another one."""
        raise TritonModelException(_BLS)


_BLS = (
    "a model cannot call another one here (BLS): do both steps in this one, or let the client call "
    "the other"
)


class ModelConfig:
    """A configuration that ``auto_complete_config`` adds to."""

    def __init__(self, model_config: Any) -> None:
        self._config = json.loads(model_config) if isinstance(model_config, str) else model_config

    def as_dict(self) -> dict[str, Any]:
        """All of it."""
        config: dict[str, Any] = self._config
        return config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """The largest batch; a smaller one that the file names stays."""
        there = self._config.get("max_batch_size", 0)
        if there > max_batch_size:
            raise ValueError(f"max_batch_size is {there} in the file, more than {max_batch_size}")
        if there == 0:
            self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Requests may come together."""
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Refused for decoupled models."""
        if transaction_policy_dict.get("decoupled"):
            raise TritonModelException("decoupled models are not served: return the response")

    def add_input(self, input: Mapping[str, Any]) -> None:
        """Add an input, or see that the one of its name is the same."""
        self._add("input", input)

    def add_output(self, output: Mapping[str, Any]) -> None:
        """Add an output, or see that the one of its name is the same."""
        self._add("output", output)

    def _add(self, side: str, tensor: Mapping[str, Any]) -> None:
        for key in ("name", "data_type", "dims"):
            if key not in tensor:
                raise ValueError(f"{side} {tensor.get('name', '')!r} has no {key}")
        for there in self._config.setdefault(side, []):
            if there["name"] != tensor["name"]:
                continue
            for key in ("data_type", "dims"):
                if there.get(key) not in (None, [], tensor[key]):
                    raise ValueError(f"{side} {tensor['name']!r} has another {key} in the file")
            there.update(tensor)
            return
        self._config[side].append(dict(tensor))


class Logger:
    """Lines for the server's log."""

    _log = logging.getLogger("triton")

    @classmethod
    def log(cls, message: str, level: int = logging.INFO) -> None:
        """A line of a level of Python's ``logging``, or of this class."""
        cls._log.log(level, "%s", message)

    @classmethod
    def log_info(cls, message: str) -> None:
        """A line."""
        cls._log.info("%s", message)

    @classmethod
    def log_warn(cls, message: str) -> None:
        """A warning."""
        cls._log.warning("%s", message)

    @classmethod
    def log_error(cls, message: str) -> None:
        """An error."""
        cls._log.error("%s", message)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        """A line that is seldom wanted."""
        cls._log.debug("%s", message)

    INFO, WARNING, ERROR, VERBOSE = logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG


LogLevel = Logger


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The input of that name, or None."""
    return _named(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The output of that name, or None."""
    return _named(inference_response.output_tensors(), name)


def _named(tensors: Iterable[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """What a configuration says of an input, or None."""
    return _config_named(model_config, "input", name)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> Any:
    """What a configuration says of an output, or None."""
    return _config_named(model_config, "output", name)


def _config_named(model_config: Mapping[str, Any], side: str, name: str) -> Any:
    return next((each for each in model_config.get(side, ()) if each["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether a model answers as often as it likes, which does not load here."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def __getattr__(name: str) -> Any:
    """The table that older models read, made when it is asked for."""
    if name != "TRITON_STRING_TO_NUMPY":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return {kind: triton_string_to_numpy(kind) for kind in _NUMPY}


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """numpy's type for one like ``TYPE_FP32``; None for those that it has not."""
    import numpy as np

    name = _NUMPY.get(triton_type_string)
    return None if name is None else getattr(np, name)


def triton_to_numpy_type(data_type: int) -> Any:
    """numpy's type for Triton's number."""
    return triton_string_to_numpy(list(_NUMPY)[data_type - 1])


def numpy_to_triton_type(data_type: Any) -> int:
    """Triton's number for numpy's type."""
    import numpy as np

    wanted = np.dtype(data_type)
    wanted = np.dtype(object) if wanted.kind in "SU" else wanted
    found = [np.dtype(triton_string_to_numpy(kind)) for kind in _NUMPY]
    if wanted not in found:
        raise TritonModelException(f"Triton has no type for numpy's {wanted}")
    return found.index(wanted) + 1


def serialize_byte_tensor(input_tensor: Any) -> Any:
    """Texts as bytes, each with its length in front; None for another kind of array."""
    import numpy as np

    if input_tensor.size == 0:
        return np.empty([0], dtype=np.object_)
    if input_tensor.dtype.kind not in "OSU":
        return None
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in input_tensor.flat]
    joined = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(joined, dtype=np.object_)


def deserialize_bytes_tensor(encoded_tensor: bytes) -> Any:
    """The texts of what ``serialize_byte_tensor`` made."""
    import numpy as np

    texts, at = [], 0
    while at < len(encoded_tensor):
        (length,) = struct.unpack_from("<I", encoded_tensor, at)
        texts.append(encoded_tensor[at + 4 : at + 4 + length])
        at += 4 + length
    return np.array(texts, dtype=np.object_)


def load_model(*args: Any, **options: Any) -> NoReturn:
    """Raises: models are loaded by the platform."""
    raise TritonModelException(_BLS)


unload_model = is_model_ready = load_model


class PreferredMemory:
    """Where a model would like its outputs; they go through the host's memory anyway."""

    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0) -> None:
        self.type, self.device_id = preferred_memory_type, preferred_device_id


class Metric:
    """A number that a model counts, for itself: the server's metrics do not have it."""

    def __init__(self) -> None:
        self._value = 0.0

    def increment(self, value: float) -> None:
        """Add to it."""
        self._value += value

    def set(self, value: float) -> None:
        """Replace it."""
        self._value = value

    def observe(self, value: float) -> None:
        """Note a value of a histogram."""
        self._value = value

    def value(self) -> float:
        """What it is now."""
        return self._value


class MetricFamily:
    """Metrics of one name."""

    COUNTER, GAUGE, HISTOGRAM = range(3)

    def __init__(self, name: str, description: str, kind: int) -> None:
        self.name, self.description, self.kind = name, description, kind

    def Metric(self, labels: Mapping[str, str] | None = None, buckets: Any = None) -> Metric:
        """A metric with these labels."""
        return Metric()
