"""MAR-INF/MANIFEST.json: how archives made for multi-model-server and TorchServe name their parts.

Read twice: to plan a load without running anything, and to show the manifest to the model's code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handlers.errors import ModelLoadError

MANIFEST = "MAR-INF/MANIFEST.json"


def read_manifest(model_dir: Path) -> dict[str, Any] | None:
    """The archive's manifest, or None without one. Raises ``ModelLoadError`` if it is broken."""
    path = model_dir / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{MANIFEST} is not valid JSON ({error}). Make the archive again, or remove MAR-INF.",
            status=400,
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("model", {}), dict):
        raise ModelLoadError(
            f'{MANIFEST} must be an object like {{"model": {{"handler": "service:handle"}}}}.',
            status=400,
        )
    return manifest


def entry(manifest: dict[str, Any] | None, name: str) -> str | None:
    """One text entry of the manifest's ``model``: handler, serializedFile, modelFile."""
    value = (manifest or {}).get("model", {}).get(name)
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise ModelLoadError(f'"{name}" in {MANIFEST} must be a string, not {value!r}.', status=400)
    return value
