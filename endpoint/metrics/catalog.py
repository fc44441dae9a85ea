"""The metrics of a multi-model endpoint: names, namespaces and units are those of CloudWatch.

Source: the platform's pages on the metrics of multi-model endpoints and on monitoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

INVOCATIONS_NAMESPACE = "AWS/SageMaker"
INSTANCES_NAMESPACE = "/aws/sagemaker/Endpoints"


class Unit(Enum):
    """CloudWatch's words for units."""

    MICROSECONDS = "Microseconds"
    PERCENT = "Percent"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; each has the dimensions EndpointName and VariantName."""

    name: str
    namespace: str
    unit: Unit
    text: str  # what it tells, for the documentation and for ``GET /metrics``


def _of_invocations(name: str, unit: Unit, text: str) -> Metric:
    return Metric(name, INVOCATIONS_NAMESPACE, unit, text)


def _of_instances(name: str, unit: Unit, text: str) -> Metric:
    return Metric(name, INSTANCES_NAMESPACE, unit, text)


INVOCATIONS = _of_invocations(
    "Invocations", Unit.NONE, "requests that a variant got, whatever became of them"
)
INVOCATIONS_PER_INSTANCE = _of_invocations(
    "InvocationsPerInstance", Unit.NONE, "of these, 1/N for each: N instances served just then"
)
INVOCATION_4XX_ERRORS = _of_invocations(
    "Invocation4XXErrors",
    Unit.NONE,
    "1 for a request answered 4xx by its container, or refused so before; else 0",
)
INVOCATION_5XX_ERRORS = _of_invocations(
    "Invocation5XXErrors", Unit.NONE, "the same for 5xx, and for a container that gave no answer"
)
INVOCATION_MODEL_ERRORS = _of_invocations(
    "InvocationModelErrors",
    Unit.NONE,
    "1 for a request whose model failed: no 2xx by its container, also when it was loaded; else 0",
)
MODEL_LATENCY = _of_invocations(
    "ModelLatency",
    Unit.MICROSECONDS,
    "time from a request to its container to the answer, less what it waited for its model there",
)
OVERHEAD_LATENCY = _of_invocations(
    "OverheadLatency",
    Unit.MICROSECONDS,
    "time of a request in the endpoint less ModelLatency; the wait for its model is in it",
)
MODEL_LOADING_WAIT_TIME = _of_invocations(
    "ModelLoadingWaitTime",
    Unit.MICROSECONDS,
    "time that a request whose model was not in memory waited for its download and load",
)
MODEL_DOWNLOADING_TIME = _of_invocations(
    "ModelDownloadingTime", Unit.MICROSECONDS, "download and extraction of a model"
)
MODEL_LOADING_TIME = _of_invocations(
    "ModelLoadingTime", Unit.MICROSECONDS, "load of a model by its container"
)
MODEL_UNLOADING_TIME = _of_invocations(
    "ModelUnloadingTime", Unit.MICROSECONDS, "unload of a model by its container"
)
MODEL_CACHE_HIT = _of_invocations(
    "ModelCacheHit", Unit.NONE, "1 for a request whose model was in memory, 0 for any other"
)
LOADED_MODEL_COUNT = _of_instances(
    "LoadedModelCount", Unit.NONE, "models in the memory of an instance"
)
CPU_UTILIZATION = _of_instances("CPUUtilization", Unit.PERCENT, "of an instance, 100 for each core")
MEMORY_UTILIZATION = _of_instances(
    "MemoryUtilization", Unit.PERCENT, "of an instance's memory limit"
)
DISK_UTILIZATION = _of_instances(
    "DiskUtilization", Unit.PERCENT, "of the disk that an instance's models may take"
)
GPU_UTILIZATION = _of_instances("GPUUtilization", Unit.PERCENT, "100 for each GPU")
GPU_MEMORY_UTILIZATION = _of_instances("GPUMemoryUtilization", Unit.PERCENT, "100 for each GPU")

METRICS = (
    INVOCATIONS,
    INVOCATIONS_PER_INSTANCE,
    INVOCATION_4XX_ERRORS,
    INVOCATION_5XX_ERRORS,
    INVOCATION_MODEL_ERRORS,
    MODEL_LATENCY,
    OVERHEAD_LATENCY,
    MODEL_LOADING_WAIT_TIME,
    MODEL_DOWNLOADING_TIME,
    MODEL_LOADING_TIME,
    MODEL_UNLOADING_TIME,
    MODEL_CACHE_HIT,
    LOADED_MODEL_COUNT,
    CPU_UTILIZATION,
    MEMORY_UTILIZATION,
    DISK_UTILIZATION,
    GPU_UTILIZATION,
    GPU_MEMORY_UTILIZATION,
)
