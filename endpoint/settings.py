"""Every setting of the endpoint, once: name, default, unit, meaning.

An ``EndpointSettings`` is made once, by ``container.environment``, and handed down; nothing in this
package reads the environment. The table in docs/endpoint-settings.md is held to these fields by a
test.
What the platform documents is a default here; what it does not is a choice of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
GIB = 1 << 30

FLEETS = ("local", "docker", "static")

# What becomes of a model whose object has changed or gone: it stays as it was first seen until it
# leaves the disk, or it is replaced or refused.
KEEP, FOLLOW = "keep", "follow"


class SettingsError(ValueError):
    """Raised when a setting has a value that the endpoint cannot start with."""


def _setting(default: Any, name: str, text: str) -> Any:
    """A field with its environment variable, ``MODELYARD_`` and the name, and one line of docs."""
    variable = f"MODELYARD_{name}"
    return field(
        default=default,
        metadata={
            "env": variable,
            "also": (),
            "text": text,
            "kind": type(default),
            "separator": None,  # URLs have colons
        },
    )


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The endpoint's settings. Sizes are bytes, times are seconds."""

    # --- where it listens and what it is called ---
    host: str = _setting("127.0.0.1", "UP_HOST", "address to listen on")
    port: int = _setting(8181, "UP_PORT", "port of all APIs; 0 picks a free one")
    data_dir: str = _setting(
        ".modelyard", "UP_DATA_DIR", "state, models' files and logs of instances"
    )
    region: str = _setting("us-east-1", "UP_REGION", "AWS region in names and for the object store")
    account: str = _setting("000000000000", "UP_ACCOUNT", "AWS account in names")
    access_file: str = _setting(
        "",
        "UP_ACCESS_FILE",
        "JSON file of access keys and what each may invoke; none: every request is accepted",
    )
    # --- instances ---
    fleet: str = _setting(
        "local", "UP_FLEET", "where containers run: `local` processes, `docker`, or `static` URLs"
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
    )
    docker_gpus: bool = _setting(
        True,
        "UP_DOCKER_GPUS",
        "of a `docker` fleet: give all GPUs to containers whose instance type has some (`ml.g*`, "
        "`ml.p*`)",
    )
    instance_memory_bytes: int = _setting(
        0, "UP_INSTANCE_MEMORY_BYTES", "memory limit of each instance; 0 sets none"
    )
    disk_bytes: int = _setting(
        0,
        "UP_DISK_BYTES",
        "disk that each instance's models may take; 0: `VolumeSizeInGB`, else 30 GiB",
    )
    memory_threshold_percent: int = _setting(
        0,
        "UP_MEMORY_THRESHOLD_PERCENT",
        "memory use over which unused models are unloaded before another is loaded; 0: only when "
        "the container answers 507",
    )
    # --- models ---
    object_changes: str = _setting(
        FOLLOW,
        "UP_OBJECT_CHANGES",
        "when an object in the store changes or goes: `follow` it, or `keep` what was downloaded",
    )
    object_check_seconds: float = _setting(
        30.0, "UP_OBJECT_CHECK_SECONDS", "how often a model in use is looked at for changes"
    )
    failed_load_seconds: float = _setting(
        10.0,
        "UP_FAILED_LOAD_SECONDS",
        "a model that failed to load is not tried again for this long",
    )
    max_extracted_bytes: int = _setting(
        64 * GIB, "UP_MAX_EXTRACTED_BYTES", "what one archive may extract to"
    )
    max_extracted_files: int = _setting(
        100_000, "UP_MAX_EXTRACTED_FILES", "files that one archive may hold"
    )
    download_connections: int = _setting(
        8, "UP_DOWNLOAD_CONNECTIONS", "parts of one archive that are downloaded at once"
    )
    # --- routing ---
    spill_requests: int = _setting(
        4,
        "UP_SPILL_REQUESTS",
        "mean of requests at once for each copy of a model, over which another instance gets one",
    )
    copy_idle_seconds: float = _setting(
        60.0,
        "UP_COPY_IDLE_SECONDS",
        "a copy is taken back when the others could have done its work for this long",
    )
    retry_lost_requests: bool = _setting(
        True,
        "UP_RETRY_LOST_REQUESTS",
        "send a request again whose instance was lost before it answered",
    )
    # --- limits and times of the platform ---
    max_body_bytes: int = _setting(
        25 * MIB, "UP_MAX_BODY_BYTES", "largest body of a request or an answer"
    )
    invoke_timeout_seconds: float = _setting(
        60.0, "UP_INVOKE_TIMEOUT_SECONDS", "an invoke is answered within this, loads included"
    )
    load_timeout_seconds: float = _setting(
        360.0, "UP_LOAD_TIMEOUT_SECONDS", "download and load of a model go on for this long"
    )
    unload_timeout_seconds: float = _setting(
        360.0, "UP_UNLOAD_TIMEOUT_SECONDS", "wait for a container to unload a model"
    )
    start_timeout_seconds: float = _setting(
        480.0,
        "UP_START_TIMEOUT_SECONDS",
        "a container must be healthy within this, unless its variant says otherwise",
    )
    stop_timeout_seconds: float = _setting(
        30.0, "UP_STOP_TIMEOUT_SECONDS", "between SIGTERM and SIGKILL of a container"
    )
    connect_timeout_seconds: float = _setting(
        0.25, "UP_CONNECT_TIMEOUT_SECONDS", "a container accepts a connection within this"
    )
    ping_timeout_seconds: float = _setting(
        2.0, "UP_PING_TIMEOUT_SECONDS", "a container answers /ping and /models within this"
    )
    probe_interval_seconds: float = _setting(
        5.0, "UP_PROBE_INTERVAL_SECONDS", "between two looks at a container's /ping and /models"
    )
    unhealthy_probes: int = _setting(
        3, "UP_UNHEALTHY_PROBES", "failed looks in a row after which an instance is replaced"
    )

    def __post_init__(self) -> None:
        """Raise SettingsError that says what is wrong with a value."""
        if self.fleet not in FLEETS:
            raise SettingsError(f"fleet={self.fleet!r}: it must be one of {', '.join(FLEETS)}")
        if self.object_changes not in (KEEP, FOLLOW):
            raise SettingsError(
                f"object_changes={self.object_changes!r}: it must be {KEEP} or {FOLLOW}"
            )
