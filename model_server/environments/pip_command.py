"""How pip is called, and what of its output is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from handlers.types import Requirements

MAX_BYTES = 2048
_MAX_LINES = 20
_MAX_ERRORS = 10

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")

# Progress and standing advice: not why it failed.
_CHATTER = re.compile(
    r"\s*(Collecting |Downloading |Looking in |Processing |Requirement already |Using cached |"
    r"Obtaining |Preparing metadata|Getting requirements to build|Installing build dep|"
    r"Installing collected|Building wheel|INFO: pip is looking|To fix this you could|\[notice\]|"
    r"[12]\. (loosen|remove) |WARNING: Running pip as the 'root'|"
    r"WARNING: Location |WARNING: Url |WARNING: Skipping page |DEPRECATION: |"
    r"Attempting uninstall|"
    r"Found existing installation|Not uninstalling |Can't uninstall )"
)

# Variables that would make pip install elsewhere, or nothing. Others, such as those that name an
# index or a proxy, are pip's business.
_MISLEADING = frozenset(
    [
        "PIP_DRY_RUN",
        "PIP_FORCE_REINSTALL",
        "PIP_IGNORE_INSTALLED",
        "PIP_PREFIX",
        "PIP_PYTHON",
        "PIP_QUIET",
        "PIP_ROOT",
        "PIP_TARGET",
        "PIP_UPGRADE",
        "PIP_USER",
    ]
)


def pip_arguments(requirements: Requirements, pins: Path) -> list[str]:
    """How pip is called."""
    options = ["--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    options += ["--progress-bar", "off", "--constraint", str(pins)]
    if requirements.wheels is not None:
        options += ["--no-index", "--find-links", str(Path(requirements.wheels).absolute())]
    if requirements.file is not None:
        options += ["--requirement", Path(requirements.file).name]
    return ["install", *options, "--", *requirements.pins]


def pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The server's variables without those that lead pip or its interpreter astray."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("PYTHON") and name not in _MISLEADING
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}  # what goes to stdout and stderr stays in order


def last_words(output: str) -> str:
    """The lines that say why it failed: errors first, then the last others; at most 2 KiB."""
    lines = [_CONTROL.sub("", line).rstrip() for line in output.splitlines()]
    lines = [line for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")][-_MAX_ERRORS:]
    others = [line for line in lines if not line.startswith("ERROR:")]
    telling = [line for line in others if not _CHATTER.match(line)]
    # Without an error, what it was busy with is the best that there is.
    telling = telling if errors or telling else others
    words = "\n".join([*errors, *telling[-(_MAX_LINES - len(errors)) :]])
    return words.encode()[:MAX_BYTES].decode(errors="ignore")


def conflicts(output: str) -> list[str]:
    """What pip says of the server's packages that do not go with what it has installed."""
    return re.findall(
        r"^\S+ \S+ requires .+, (?:which is not installed\.|but you have .+)$", output, re.M
    )
