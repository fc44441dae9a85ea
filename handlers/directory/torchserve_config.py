"""TorchServe's model-config.yaml: settings that both servers have, and whatever its handler reads.

Taken as TorchServe takes it: unknown keys are for the handler, and values out of range are passed
over.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from handlers.directory.manifest import MANIFEST, entry
from handlers.directory.setting_values import problem_of, read_text, refused, shown

log = logging.getLogger("modelyard.handlers")

TORCHSERVE_FILE = "model-config.yaml"

_NAMES = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay_ms",
    "responseTimeout": "request_timeout_seconds",
}
# There, ``gpu`` means one of those that the machine has, and the CPU where it has none.
_DEVICES = {"cpu": "cpu", "gpu": "auto"}


def torchserve_config(
    model_dir: Path, manifest: dict[str, Any] | None
) -> tuple[dict[str, Any], str]:
    """The contents and the name of TorchServe's settings file; empty without one.

    It is the one that the manifest's ``configFile`` names, else ``model-config.yaml`` in the root.
    Raises ``ModelLoadError`` if it is no YAML, or if the one that is named is not there.
    """
    named = entry(manifest, "configFile")
    file = named or TORCHSERVE_FILE
    path = model_dir / file
    if not path.is_file():
        if named is None:
            return {}, file
        raise refused(f"{MANIFEST} names the configFile {shown(named)}, which is not there")
    contents = _yaml(read_text(path, file), file)
    if contents is None:
        return {}, file
    if not isinstance(contents, dict):
        raise refused(f"{file} must hold keys and values, such as minWorkers: 2")
    return contents, file


def torchserve_settings(config: dict[str, Any], file: str) -> dict[str, Any]:
    """Our settings by name, as ``config`` has them. What cannot be is logged and passed over."""
    found: dict[str, Any] = {}
    for theirs, ours in _NAMES.items():
        if config.get(theirs) not in (None, 0):  # 0 is what TorchServe has for "not set"
            found[ours] = config[theirs]
    device = config.get("deviceType")
    if isinstance(device, str) and device:
        found["device"] = _DEVICES.get(device.lower(), device)
    for name in list(found):
        problem = problem_of(name, found[name])
        if problem is not None:
            log.warning("passed over in %s: %s", file, problem)
            del found[name]
    if found.get("min_workers", 0) > found.get("max_workers", float("inf")):
        del found["max_workers"]  # it starts min_workers all the same
    return found


def _yaml(text: str, file: str) -> Any:
    import yaml  # only a few models have such a file

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise refused(f"{file} is not valid YAML: {error.problem}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise refused(f"{file} is not valid YAML: {error}") from error
