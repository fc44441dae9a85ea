"""``modelyard load-test`` as people run it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.modelyard.conftest import COMMAND, environment

# A busy machine may need all of it; none of the runs here takes more than some seconds of its own.
LIMIT_SECONDS = 110

KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/none",
    "AWS_SHARED_CREDENTIALS_FILE": "/none",
}


class Done(NamedTuple):
    """How it ended. ``figures`` are what it wrote as JSON, {} if it wrote nothing."""

    code: int
    out: str
    err: str
    figures: dict[str, Any]


def started(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """To be ended and ``communicate``d with. A variable of "" is not there."""
    plain = {name: value for name, value in environment().items() if not name.startswith("AWS_")}
    given = {name: value for name, value in {**KEYS, **variables}.items() if value}
    return subprocess.Popen(
        [COMMAND, "load-test", *map(str, arguments)],
        env={**plain, **given},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load_test(*arguments: object, cwd: Path | None = None, **variables: str) -> Done:
    """Run it to its end."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "figures.json"
        process = started(*arguments, "--json", file, cwd=cwd, **variables)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
        figures = json.loads(file.read_text()) if file.exists() else {}
        assert [path for path in Path(directory).iterdir() if path != file] == []
    assert "Traceback" not in err, err
    return Done(process.returncode, out, err, figures)
