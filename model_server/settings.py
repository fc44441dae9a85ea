"""Every setting of the server, once: name, default, unit, meaning.

A ``Settings`` is made once, by ``container.environment``, and handed down; nothing in this package
reads the environment. The table in docs/configuration.md is held to these fields by a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from handlers.frameworks import FRAMEWORKS
from handlers.types import HandlerOptions

MIB = 1 << 20

# Connections to the port that may wait to be accepted.
TCP_BACKLOG = 2048

# The name of the one model of single-model mode.
SINGLE_MODEL = "model"

PRELOAD_AUTO = "auto"
PRELOAD_NONE = "none"


class SettingsError(ValueError):
    """Raised when a setting has a value that the server cannot start with."""


def setting(default: Any, env: str, text: str, *, also: tuple[str, ...] = ()) -> Any:
    """A field of ``Settings`` with its environment variable, aliases and one line of docs."""
    return field(default=default, metadata={"env": env, "also": also, "text": text})


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
        "/opt/ml/model", "MODELYARD_MODEL_DIR", "the model served by `POST /invocations`"
    )
    model_roots: tuple[str, ...] = setting(
        ("/opt/ml",),
        "MODELYARD_MODEL_ROOTS",
        "directories (`:` between) that a load's `url` may lie in",
    )
    gateways: int = setting(
        0, "MODELYARD_GATEWAYS", "HTTP processes; 0: one for each 4 cores, at most 8"
    )
    workers_per_model: int = setting(
        1,
        "MODELYARD_WORKERS_PER_MODEL",
        "processes a model, so requests it handles at once",
        also=("SAGEMAKER_MODEL_SERVER_WORKERS",),
    )
    queue_size: int = setting(
        100,
        "MODELYARD_QUEUE_SIZE",
        "requests that may wait for a model; more are answered 503",
        also=("SAGEMAKER_MODEL_JOB_QUEUE_SIZE",),
    )
    request_timeout_seconds: float = setting(
        60.0,
        "MODELYARD_REQUEST_TIMEOUT_SECONDS",
        "limit of one request; then 504, and a stuck worker is replaced",
        also=("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",),
    )
    load_timeout_seconds: float = setting(
        360.0, "MODELYARD_LOAD_TIMEOUT_SECONDS", "limit of one load; then the load fails with 504"
    )
    drain_timeout_seconds: float = setting(
        20.0,
        "MODELYARD_DRAIN_TIMEOUT_SECONDS",
        "how long running requests may take to finish on unload and on SIGTERM",
    )
    max_body_bytes: int = setting(
        25 * MIB, "MODELYARD_MAX_BODY_BYTES", "largest request body; larger is answered 413"
    )
    memory_limit_bytes: int = setting(
        0,
        "MODELYARD_MEMORY_LIMIT_BYTES",
        "memory for models and server; 0: 90 % of the control group's or the machine's",
    )
    preload: str = setting(
        PRELOAD_AUTO,
        "MODELYARD_PRELOAD",
        "frameworks to warm up at start: `auto` (the installed ones, within a tenth of the memory "
        "limit), `none`, or a list such as `sklearn,pytorch`",
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
        "multi-model-server custom service for models whose archive names none: "
        "`module[:function]` or a path",
        also=("SAGEMAKER_HANDLER",),
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
        )


def _problems(settings: Settings) -> list[str]:
    """Say what is wrong, naming the setting and what would be right."""
    at_least = {
        "port": 0, "gateways": 0, "workers_per_model": 1, "queue_size": 1,
        "max_body_bytes": 1, "memory_limit_bytes": 0,
    }  # fmt: skip
    found = [
        f"{name} is {getattr(settings, name)}; it must be {least} or more"
        for name, least in at_least.items()
        if getattr(settings, name) < least
    ]
    found += [
        f"{name} is {getattr(settings, name)}; it must be a number of seconds above 0"
        for name in ("request_timeout_seconds", "load_timeout_seconds", "drain_timeout_seconds")
        if not (getattr(settings, name) > 0 and isfinite(getattr(settings, name)))
    ]
    choices = {
        "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
        "log_format": ("plain", "json"),
        "access_log": ("all", "errors", "none"),
    }
    found += [
        f"{name} is {getattr(settings, name)!r}; it must be one of {', '.join(allowed)}"
        for name, allowed in choices.items()
        if getattr(settings, name) not in allowed
    ]
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
