"""Every setting of the server, once: name, default, unit, meaning.

A ``Settings`` is made once, by ``container.environment``, and handed down; nothing in this package
reads the environment. docs/reference/container-settings.md is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from handlers.directory.setting_values import KEYS, problem_of
from handlers.frameworks import FRAMEWORKS
from handlers.types import HandlerOptions, ModelSettings
from model_server.memory.policies import POLICIES

MIB = 1 << 20

# Less than this the server takes itself, and there is no machine that has more than that.
LEAST_LIMIT_BYTES = 64 * MIB
_MOST_BYTES = 1 << 50

# Connections to the port that may wait to be accepted.
TCP_BACKLOG = 2048

# The name of the one model of single-model mode.
SINGLE_MODEL = "model"

LOAD_ALL = "all"

PRELOAD_AUTO = "auto"
PRELOADED = ("python", "sklearn", "pytorch")
PRELOAD_NONE = "none"


class SettingsError(ValueError):
    """Raised when a setting has a value that the server cannot start with."""


def setting(
    default: Any, env: str, text: str, *, also: tuple[str, ...] = (), kind: type | None = None
) -> Any:
    """A field of ``Settings`` with its environment variable, aliases and one line of docs.

    ``kind`` is the type of its values; that of the default if left out.
    """
    kind = kind or type(default)
    return field(default=default, metadata={"env": env, "also": also, "text": text, "kind": kind})


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings. Sizes are bytes, times are seconds."""

    host: str = setting("0.0.0.0", "MODELYARD_HOST", "address to listen on")
    # The platform's own variables come first: what it injects must win over what an image sets.
    port: int = setting(
        8080,
        "SAGEMAKER_BIND_TO_PORT",
        "port to listen on; 0 picks a free one",
        also=("MODELYARD_PORT",),
    )
    multi_model: bool = setting(
        False,
        "SAGEMAKER_MULTI_MODEL",
        "many models, loaded by `POST /models`; else the one in `model_dir`",
        also=("MODELYARD_MULTI_MODEL",),
    )
    model_dir: str = setting(
        "/opt/ml/model",
        "MODELYARD_MODEL_DIR",
        "the model of `POST /invocations`, or where the archives lie that requests name in "
        "`X-Amzn-SageMaker-Target-Model`",
    )
    load_models: tuple[str, ...] = setting(
        (),
        "MODELYARD_LOAD_MODELS",
        "models to load at start (`:` between): `name=directory`, archives in `model_dir`, or "
        "`all` of them",
    )
    model_roots: tuple[str, ...] = setting(
        ("/opt/ml",),
        "MODELYARD_MODEL_ROOTS",
        "directories (`:` between) that a load's `url` may lie in",
    )
    gateways: int = setting(
        0, "MODELYARD_GATEWAYS", "HTTP processes; 0: one for each 4 cores, at most 8"
    )
    min_workers: int = setting(
        1,
        "MODELYARD_MIN_WORKERS",
        "processes a model has at least, so requests it handles at once",
        also=(
            "SAGEMAKER_MODEL_SERVER_WORKERS",
            "SAGEMAKER_NUM_MODEL_WORKERS",
            "SAGEMAKER_TS_MIN_WORKERS",
            "MMS_DEFAULT_WORKERS_PER_MODEL",
            "TS_DEFAULT_WORKERS_PER_MODEL",
        ),
    )
    max_workers: int = setting(
        0,
        "MODELYARD_MAX_WORKERS",
        "processes a model may have while requests wait for it; 0: no more than `min_workers`",
        also=("SAGEMAKER_TS_MAX_WORKERS",),
    )
    worker_idle_seconds: float = setting(
        60.0,
        "MODELYARD_WORKER_IDLE_SECONDS",
        "a process beyond `min_workers` goes when it had nothing to do for this long",
    )
    share_weights: bool = setting(
        True,
        "MODELYARD_SHARE_WEIGHTS",
        "fork further processes from the loaded model where that is safe, so that they share it",
    )
    batch_size: int = setting(
        1,
        "MODELYARD_BATCH_SIZE",
        "requests handed together to a handler that takes lists, at most",
        also=("SAGEMAKER_TS_BATCH_SIZE",),
    )
    max_batch_delay_ms: float = setting(
        0.0,
        "MODELYARD_MAX_BATCH_DELAY_MS",
        "milliseconds that a batch waits to fill; 0: it takes what is waiting anyway",
        also=("SAGEMAKER_TS_MAX_BATCH_DELAY",),
    )
    threads: int = setting(
        1,
        "MODELYARD_THREADS",
        "computing threads in each process of a model",
        also=("OMP_NUM_THREADS",),
    )
    device: str = setting(
        "auto", "MODELYARD_DEVICE", "where models run: `auto`, `cpu`, `cuda` or `cuda:N`"
    )
    pinned: bool = setting(False, "MODELYARD_PINNED", "models are never evicted")
    queue_size: int = setting(
        100,
        "MODELYARD_QUEUE_SIZE",
        "requests that may wait for a model; more are answered 503",
        also=("SAGEMAKER_MODEL_JOB_QUEUE_SIZE", "MMS_JOB_QUEUE_SIZE", "TS_JOB_QUEUE_SIZE"),
    )
    request_timeout_seconds: float = setting(
        60.0,
        "MODELYARD_REQUEST_TIMEOUT_SECONDS",
        "limit of one request; then 504, and a stuck worker is replaced",
        also=(
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT",
            "SAGEMAKER_TS_RESPONSE_TIMEOUT",
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "TS_DEFAULT_RESPONSE_TIMEOUT",
        ),
    )
    load_timeout_seconds: float = setting(
        360.0,
        "MODELYARD_LOAD_TIMEOUT_SECONDS",
        "limit of one load; then the load fails with 504",
        also=("SAGEMAKER_STARTUP_TIMEOUT",),
    )
    drain_timeout_seconds: float = setting(
        20.0,
        "MODELYARD_DRAIN_TIMEOUT_SECONDS",
        "how long running requests may take to finish on unload and on SIGTERM",
    )
    max_body_bytes: int = setting(
        25 * MIB,
        "MODELYARD_MAX_BODY_BYTES",
        "largest request body; larger is answered 413",
        also=(
            "SAGEMAKER_MAX_REQUEST_SIZE",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "MAX_CONTENT_LENGTH",
            "MMS_MAX_REQUEST_SIZE",
            "TS_MAX_REQUEST_SIZE",
        ),
    )
    memory_limit_bytes: int | None = setting(
        None,
        "MODELYARD_MEMORY_LIMIT_BYTES",
        "memory for models and server; default: 90 % of the control group's or the machine's",
        kind=int,
    )
    gpu_memory_limit_bytes: int | None = setting(
        None,
        "MODELYARD_GPU_MEMORY_LIMIT_BYTES",
        "memory of each GPU for models; default: 95 % of what it has",
        kind=int,
    )
    max_memory_bytes: int = setting(
        0,
        "MODELYARD_MAX_MEMORY_BYTES",
        "memory that each process of a model may take; 0: all that models have together",
    )
    eviction_policy: str = setting(
        "cost_aware",
        "MODELYARD_EVICTION_POLICY",
        "who leaves when memory is short: `cost_aware`, `lru`, or with `platform` nobody, and "
        "loads are answered 507",
    )
    memory_wait_seconds: float = setting(
        10.0,
        "MODELYARD_MEMORY_WAIT_SECONDS",
        "how long a load or an invoke waits for busy models to make room; then 507",
    )
    learned_sizes_file: str = setting(
        "/tmp/modelyard/sizes.json",
        "MODELYARD_LEARNED_SIZES_FILE",
        "where measured sizes and load times are kept for the next start; empty: nowhere",
    )
    gpu_probe: str = setting(
        "auto",
        "MODELYARD_GPU_PROBE",
        "where GPUs and their memory are read from: `auto` (NVML), `none`, or a JSON file that "
        "says so",
    )
    gpu_parking: bool = setting(
        True,
        "MODELYARD_GPU_PARKING",
        "move the weights of evicted models from a GPU to RAM where that is possible",
    )
    preload: str = setting(
        PRELOAD_AUTO,
        "MODELYARD_PRELOAD",
        "frameworks to warm up at start: `auto` (python, sklearn and pytorch as far as a tenth of "
        "the memory goes), `none`, or a list: `sklearn,onnx`",
    )
    log_level: str = setting("INFO", "MODELYARD_LOG_LEVEL", "`DEBUG`, `INFO`, `WARNING` or `ERROR`")
    log_format: str = setting("plain", "MODELYARD_LOG_FORMAT", "`plain` or `json`")
    access_log: str = setting(
        "errors",
        "MODELYARD_ACCESS_LOG",
        "requests to log: `all`, `errors` (status >= 400) or `none`",
    )
    run_dir: str = setting(
        "", "MODELYARD_RUN_DIR", "directory for sockets; default: a new one in `/dev/shm` or `/tmp`"
    )
    program: str = setting(
        "inference.py",
        "MODELYARD_PROGRAM",
        "file name of the script with `model_fn`, `predict_fn`, …",
        also=("SAGEMAKER_PROGRAM",),
    )
    handler: str = setting(
        "",
        "MODELYARD_HANDLER",
        "custom service for models whose archive names none: `module[:function]` or a path",
        also=("SAGEMAKER_HANDLER",),
    )
    submit_directory: str = setting(
        "",
        "MODELYARD_SUBMIT_DIRECTORY",
        "directory, tar.gz or `s3://` address of `program` and its modules, for all models; takes "
        "the place of `shared_code_dir`",
        also=("SAGEMAKER_SUBMIT_DIRECTORY",),
    )
    shared_code_dir: str = setting(
        "/opt/ml/models/code", "MODELYARD_SHARED_CODE_DIR", "one script for all models lies here"
    )
    default_accept: str = setting(
        "application/json",
        "MODELYARD_DEFAULT_ACCEPT",
        "content type of answers to clients that ask for none",
        also=("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",),
    )
    hf_task: str = setting(
        "",
        "MODELYARD_HF_TASK",
        "task of Hugging Face models (`text-classification`, …); default: what config.json says",
        also=("HF_TASK",),
    )
    model_requirements: bool = setting(
        True,
        "MODELYARD_MODEL_REQUIREMENTS",
        "give a model with `code/requirements.txt` an environment of its own with these packages",
    )
    environments_dir: str = setting(
        "/tmp/modelyard/environments",
        "MODELYARD_ENVIRONMENTS_DIR",
        "where environments of models are built and kept",
    )
    built_environments_dir: str = setting(
        "",
        "MODELYARD_BUILT_ENVIRONMENTS_DIR",
        "where environments lie that came with the image; they are used before others are built",
    )
    environments_max_bytes: int = setting(
        10 * 1024 * MIB,
        "MODELYARD_ENVIRONMENTS_MAX_BYTES",
        "environments that no loaded model uses are deleted, the longest unused first, above this",
    )
    environment_timeout_seconds: float = setting(
        600.0,
        "MODELYARD_ENVIRONMENT_TIMEOUT_SECONDS",
        "limit of building one environment; then the load fails",
    )
    extract_dir: str = setting(
        "/tmp/modelyard/models", "MODELYARD_EXTRACT_DIR", "where archives are extracted to"
    )
    max_extracted_bytes: int = setting(
        20 * 1024 * MIB,
        "MODELYARD_MAX_EXTRACTED_BYTES",
        "an archive whose files are larger in all is refused",
    )
    max_extracted_files: int = setting(
        50_000, "MODELYARD_MAX_EXTRACTED_FILES", "an archive of more files is refused"
    )

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise SettingsError(problem)

    @property
    def handler_options(self) -> HandlerOptions:
        """What the handlers need to know of all this."""
        return HandlerOptions(
            program=self.program,
            handler=self.handler or None,
            shared_code_dir=self.shared_code_dir,
            default_accept=self.default_accept,
            defaults=self.model_defaults,
            model_requirements=self.model_requirements,
        )

    @property
    def model_defaults(self) -> ModelSettings:
        """How models are served whose own settings file does not say otherwise."""
        return ModelSettings(
            min_workers=self.min_workers,
            max_workers=max(self.min_workers, self.max_workers),
            batch_size=self.batch_size,
            max_batch_delay_ms=self.max_batch_delay_ms,
            request_timeout_seconds=self.request_timeout_seconds,
            threads=self.threads,
            device=self.device,
            pinned=self.pinned,
            share_weights=self.share_weights,
            max_memory_bytes=self.max_memory_bytes,
            environment=(("HF_TASK", self.hf_task),) if self.hf_task else (),
        )


def _problems(settings: Settings) -> list[str]:
    """Say what is wrong, naming the setting and what would be right."""
    at_least = {
        "port": 0, "gateways": 0, "queue_size": 1, "max_body_bytes": 1,
        "environments_max_bytes": 0, "max_extracted_bytes": 1, "max_extracted_files": 1,
    }  # fmt: skip
    found = [
        f"{name} is {getattr(settings, name)}; it must be {least} or more"
        for name, least in at_least.items()
        if getattr(settings, name) < least
    ]
    found += [
        f"{name} is {getattr(settings, name)}; it must be a number of seconds above 0"
        for name in (
            "load_timeout_seconds",
            "drain_timeout_seconds",
            "worker_idle_seconds",
            "environment_timeout_seconds",
            "memory_wait_seconds",
        )
        if not (getattr(settings, name) > 0 and isfinite(getattr(settings, name)))
    ]
    found += [
        f"{name} is {limit}; it must be from {least} to {_MOST_BYTES} bytes, or left out"
        for name, least in (
            ("memory_limit_bytes", LEAST_LIMIT_BYTES),
            ("gpu_memory_limit_bytes", 1),
        )
        if (limit := getattr(settings, name)) is not None and not least <= limit <= _MOST_BYTES
    ]
    choices = {
        "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
        "log_format": ("plain", "json"),
        "eviction_policy": tuple(POLICIES),
        "access_log": ("all", "errors", "none"),
    }
    found += [
        f"{name} is {getattr(settings, name)!r}; it must be one of {', '.join(allowed)}"
        for name, allowed in choices.items()
        if getattr(settings, name) not in allowed
    ]
    of_models = [
        problem_of(name, getattr(settings, name))
        for name in KEYS
        if name != "max_workers" or settings.max_workers != 0
    ]
    found += [problem for problem in of_models if problem is not None]
    if 0 < settings.max_workers < settings.min_workers:
        found.append(
            f"max_workers is {settings.max_workers}, less than min_workers "
            f"({settings.min_workers}); raise it, or leave it 0"
        )
    if settings.preload not in (PRELOAD_AUTO, PRELOAD_NONE):
        unknown = [name for name in settings.preload.split(",") if name not in FRAMEWORKS]
        if unknown:
            found.append(
                f"preload names {', '.join(unknown)}; it must be {PRELOAD_AUTO}, {PRELOAD_NONE} "
                f"or a list of {', '.join(FRAMEWORKS)}"
            )
    if settings.port > 65535:
        found.append(f"port is {settings.port}; it must be 65535 or less")
    if not settings.model_roots or not all(
        Path(root).is_absolute() for root in settings.model_roots
    ):
        found.append(f"model_roots is {settings.model_roots}; it must be absolute directories")
    return found
