"""Every setting of the endpoint, once: name, default, unit, meaning.

An ``EndpointSettings`` is made once, by ``container.environment``, and handed down; nothing in this
package reads the environment. docs/reference/endpoint-settings.md is made from it.
What the platform documents is a default here; what it does not is a choice of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MIB = 1 << 20
GIB = 1 << 30
DAY = 86400
INSTANT = 0.001  # a time that is none would let nothing happen

FLEETS = ("local", "docker", "static")

# What becomes of a model whose object has changed or gone: it stays as it was first seen until it
# leaves the disk, or it is replaced or refused.
KEEP, FOLLOW = "keep", "follow"


class SettingsError(ValueError):
    """Raised when a setting has a value that the endpoint cannot start with."""


def _setting(default: Any, name: str, text: str, **bounds: Any) -> Any:
    """A field with its environment variable, ``MODELYARD_`` and the name, and one line of docs.

    ``bounds`` are what a value must keep to, see ``_broken``; all that are given must hold.
    """
    variable = f"MODELYARD_{name}"
    return field(
        default=default,
        metadata={
            "env": variable,
            "also": (),
            "text": text,
            "kind": type(default),
            "separator": None,  # URLs have colons
            **bounds,
        },
    )


def _broken(value: Any, bounds: Mapping[str, Any]) -> str:
    """What a value must be, and is not; "" if it is."""
    if "choices" in bounds and value not in bounds["choices"]:
        return f"one of {', '.join(bounds['choices'])}"
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
        return f"of the form {bounds['pattern']}"
    # Written so that "not a number" is neither.
    if "at_least" in bounds and not value >= bounds["at_least"]:
        return f"{bounds['at_least']} or more"
    if "at_most" in bounds and not value <= bounds["at_most"]:
        return f"{bounds['at_most']} or less"
    return ""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The endpoint's settings. Sizes are bytes, times are seconds."""

    # --- where it listens and what it is called ---
    host: str = _setting("127.0.0.1", "UP_HOST", "address to listen on")
    port: int = _setting(
        8181, "UP_PORT", "port of all APIs; 0 picks a free one", at_least=0, at_most=65535
    )
    data_dir: str = _setting(
        ".modelyard", "UP_DATA_DIR", "state, models' files and logs of instances", pattern=r"(?s).+"
    )
    region: str = _setting(
        "us-east-1",
        "UP_REGION",
        "AWS region in names and for the object store",
        pattern=r"[a-z0-9-]+",
    )
    account: str = _setting(
        "000000000000", "UP_ACCOUNT", "AWS account in names", pattern="[0-9]{12}"
    )
    access_file: str = _setting(
        "",
        "UP_ACCESS_FILE",
        "JSON file of access keys and what each may invoke; none: every request is accepted",
    )
    open_to_all: bool = _setting(
        False,
        "UP_OPEN_TO_ALL",
        "let everybody in who reaches a `host` that is not this machine alone, without an "
        "`access_file`",
    )
    published_on_loopback: bool = _setting(
        False,
        "UP_PUBLISHED_ON_LOOPBACK",
        "it listens in a container, whose engine publishes its port on the loopback of the machine "
        "alone: it trusts, and distrusts, whom it would with that as its `host`",
    )
    # --- instances ---
    fleet: str = _setting(
        "local",
        "UP_FLEET",
        "where containers run: `local` processes, `docker`, or `static` URLs",
        choices=FLEETS,
    )
    local_command: str = _setting(
        "",
        "UP_LOCAL_COMMAND",
        "command line that a `local` instance runs instead of this installation's `serve`",
    )
    static_instances: tuple[str, ...] = _setting(
        (),
        "UP_STATIC_INSTANCES",
        "of a `static` fleet: `URL=DIR` or `URL=DIR=DIR_IN_CONTAINER`, with spaces between",
    )
    docker_url: str = _setting(
        "", "UP_DOCKER_URL", "of a `docker` fleet: the engine's socket; default as the docker CLI"
    )
    docker_volumes: tuple[str, ...] = _setting(
        (),
        "UP_DOCKER_VOLUMES",
        "of a `docker` fleet: further `HOST:CONTAINER[:ro]` mounts, with spaces between",
    )
    docker_network: str = _setting(
        "bridge",
        "UP_DOCKER_NETWORK",
        "of a `docker` fleet: the network of containers; in `host` each listens on a port of its "
        "own",
        pattern=r"\S+",
    )
    docker_gpus: bool = _setting(
        True,
        "UP_DOCKER_GPUS",
        "of a `docker` fleet: give all GPUs to containers whose instance type has some (`ml.g*`, "
        "`ml.p*`)",
    )
    max_instances: int = _setting(
        64,
        "UP_MAX_INSTANCES",
        "instances of all endpoints together; an update has those of both configurations",
        at_least=1,
    )
    instance_memory_bytes: int = _setting(
        0,
        "UP_INSTANCE_MEMORY_BYTES",
        "memory limit of each instance; 0 sets none. `docker`: the engine enforces it. `local`: "
        "`serve` keeps to it; of any other command only `memory_threshold_percent` and "
        "`GET /status` see it. `static`: not used",
        at_least=0,
    )
    disk_bytes: int = _setting(
        0,
        "UP_DISK_BYTES",
        "disk that each instance's models may take; 0: `VolumeSizeInGB`, else 30 GiB",
        at_least=0,
    )
    memory_threshold_percent: int = _setting(
        0,
        "UP_MEMORY_THRESHOLD_PERCENT",
        "memory use over which unused models are unloaded before another is loaded; 0: only when "
        "the container answers 507",
        at_least=0,
        at_most=100,
    )
    # --- models ---
    object_changes: str = _setting(
        FOLLOW,
        "UP_OBJECT_CHANGES",
        "when an object in the store changes or goes: `follow` it, or `keep` what was downloaded",
        choices=(FOLLOW, KEEP),
    )
    object_check_seconds: float = _setting(
        30.0,
        "UP_OBJECT_CHECK_SECONDS",
        "how often a model in use is looked at for changes",
        at_least=0,
        at_most=DAY,
    )
    failed_load_seconds: float = _setting(
        10.0,
        "UP_FAILED_LOAD_SECONDS",
        "a model that failed to load is not tried again for this long",
        at_least=0,
        at_most=DAY,
    )
    max_extracted_bytes: int = _setting(
        64 * GIB, "UP_MAX_EXTRACTED_BYTES", "what one archive may extract to", at_least=1
    )
    max_extracted_files: int = _setting(
        100_000, "UP_MAX_EXTRACTED_FILES", "files that one archive may hold", at_least=1
    )
    download_connections: int = _setting(
        8,
        "UP_DOWNLOAD_CONNECTIONS",
        "parts of one archive that are downloaded at once; 1, in larger parts, from the S3 that "
        "`modelyard up` starts",
        at_least=1,
        at_most=64,
    )
    # --- routing ---
    spill_requests: int = _setting(
        4,
        "UP_SPILL_REQUESTS",
        "mean of requests at once for each copy of a model, over which another instance gets one",
        at_least=1,
    )
    copy_idle_seconds: float = _setting(
        60.0,
        "UP_COPY_IDLE_SECONDS",
        "a copy is taken back when the others could have done its work for this long",
        at_least=0,
        at_most=DAY,
    )
    retry_lost_requests: bool = _setting(
        True,
        "UP_RETRY_LOST_REQUESTS",
        "send a request again whose instance was lost before it answered",
    )
    # --- limits and times of the platform ---
    max_body_bytes: int = _setting(
        25 * MIB, "UP_MAX_BODY_BYTES", "largest body of a request or an answer", at_least=1
    )
    invoke_timeout_seconds: float = _setting(
        60.0,
        "UP_INVOKE_TIMEOUT_SECONDS",
        "an invoke is answered within this, loads included",
        at_least=INSTANT,
        at_most=DAY,
    )
    load_timeout_seconds: float = _setting(
        360.0,
        "UP_LOAD_TIMEOUT_SECONDS",
        "download and load of a model go on for this long",
        at_least=INSTANT,
        at_most=DAY,
    )
    unload_timeout_seconds: float = _setting(
        360.0,
        "UP_UNLOAD_TIMEOUT_SECONDS",
        "wait for a container to unload a model",
        at_least=INSTANT,
        at_most=DAY,
    )
    start_timeout_seconds: float = _setting(
        480.0,
        "UP_START_TIMEOUT_SECONDS",
        "a container must be healthy within this, unless its variant says otherwise",
        at_least=INSTANT,
        at_most=DAY,
    )
    stop_timeout_seconds: float = _setting(
        30.0,
        "UP_STOP_TIMEOUT_SECONDS",
        "between SIGTERM and SIGKILL of a container",
        at_least=0,
        at_most=DAY,
    )
    connect_timeout_seconds: float = _setting(
        0.25,
        "UP_CONNECT_TIMEOUT_SECONDS",
        "a container accepts a connection within this",
        at_least=INSTANT,
        at_most=DAY,
    )
    ping_timeout_seconds: float = _setting(
        2.0,
        "UP_PING_TIMEOUT_SECONDS",
        "a container answers /ping and /models within this",
        at_least=INSTANT,
        at_most=DAY,
    )
    probe_interval_seconds: float = _setting(
        5.0,
        "UP_PROBE_INTERVAL_SECONDS",
        "between two looks at a container's /ping and /models",
        at_least=INSTANT,
        at_most=DAY,
    )
    unhealthy_probes: int = _setting(
        3,
        "UP_UNHEALTHY_PROBES",
        "failed looks in a row after which an instance is replaced",
        at_least=1,
    )

    def __post_init__(self) -> None:
        """Raise SettingsError that names the first setting with a value outside its bounds."""
        for one in fields(self):
            value = getattr(self, one.name)
            if wanted := _broken(value, one.metadata):
                raise SettingsError(f"{one.name}={value!r}: it must be {wanted}")
